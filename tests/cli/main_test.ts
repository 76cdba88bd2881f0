import assert from "node:assert/strict";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { configCommand } from "../../cli/config.ts";
import { doctorCommand } from "../../cli/doctor.ts";
import { generateCommand } from "../../cli/generate.ts";
import { pretrainCommand } from "../../cli/pretrain.ts";
import { quickstartCommand } from "../../cli/quickstart.ts";
import { tokenizeCommand } from "../../cli/tokenize.ts";
import { quern, root } from "../support.ts";

Deno.test("quern --help: lists the commands, each with a line", async () => {
  const { code, stdout } = await quern(["--help"]);
  assert.equal(code, 0);
  assert.match(stdout, /tokenize +turn text, jsonl or parquet into token shards/);
});

Deno.test("quern: help, version and slips", async () => {
  const bare = await quern([]);
  assert.equal(bare.code, 0);
  assert.match(bare.stdout, /^Usage: quern/);
  assert.match((await quern(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
  assert.match((await quern(["help", "tokenize"])).stdout, /--val-fraction <x>/);
  const { stdout: help } = await quern(["pretrain", "--help"]);
  const [said] = help.split("\nExamples:");
  for (const line of said.split("\n")) assert.ok(line.length <= 80, line);
  assert.doesNotMatch(help, /default: (false|\[\])/);
  const slip = await quern(["tokenise"]);
  assert.equal(slip.code, 2);
  assert.match(slip.stderr, /unknown command 'tokenise'\n\(Did you mean tokenize\?\)/);
  const unknown = await quern(["help", "nope"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /^error: unknown command 'nope'\nhint: known: fetch, tokenize, /);
});

/** Flags that several commands have. */
const sharedFlags = new Set(
  ["--config", "--set", "--out", "--seed", "--json", "--quiet", "--dry-run", "--device", "--blas"]
    .concat(["--threads", "--checkpoint", "--average", "--help"]),
);

Deno.test("quern: no command has more than fourteen flags of its own", () => {
  const commands: CommandUnknownOpts[] = [
    configCommand(),
    doctorCommand(),
    generateCommand(),
    pretrainCommand(),
    quickstartCommand(),
    tokenizeCommand(),
  ];
  for (const command of commands.flatMap((command) => [command, ...command.commands])) {
    const own = command.options.filter(({ long }) => !sharedFlags.has(long ?? ""));
    assert.ok(own.length < 15, `${command.name()}: ${own.map(({ long }) => long).join(" ")}`);
  }
});

Deno.test("quern --help: loads neither zod, yaml nor tokenizers", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", `${root}cli/main.ts`],
  }).output();
  const { modules, roots } = JSON.parse(new TextDecoder().decode(stdout));
  const bySpecifier = new Map<string, { dependencies?: Dependency[] }>(
    modules.map((module: { specifier: string }) => [module.specifier, module]),
  );
  const loaded = new Set<string>(roots);
  for (const specifier of loaded) { // a set grows while it is walked
    for (const { code, isDynamic, npmPackage } of bySpecifier.get(specifier)?.dependencies ?? []) {
      if (!isDynamic && code?.specifier) loaded.add(npmPackage ?? code.specifier);
    }
  }
  const packages = [...loaded].filter((name) =>
    !name.startsWith("file:") && !name.startsWith("node:")
  );
  assert.ok(packages.some((name) => name.includes("commander")));
  assert.deepEqual(packages.filter((name) => !name.includes("commander")), []);
});

/** An import as `deno info --json` tells it. */
interface Dependency {
  code?: { specifier: string };
  isDynamic?: boolean;
  npmPackage?: string;
}
