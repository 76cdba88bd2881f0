import assert from "node:assert/strict";
import { join } from "node:path";
import { builtinConfigs } from "../../cli/builtin_configs.ts";
import { quern, root, withTempDir } from "../support.ts";
import { attempt, makeProject, run, tinyYaml } from "./tiny_project.ts";

Deno.test("quern config list: every file of configs/, with a sentence", async () => {
  const { code, stdout } = await quern(["config", "list"]);
  assert.equal(code, 0);
  assert.match(stdout, /^llama-5m +The benchmark model: 5\.4 million parameters, .*\.$/m);
  assert.match(stdout, /^shakespeare-char +The public nanoGPT recipe .* character\.$/m);
  const files = [...Deno.readDirSync(`${root}configs`)].map(({ name }) => name);
  assert.deepEqual(
    builtinConfigs.map(({ name }) => `${name}.yaml`).sort(),
    files.filter((name) => name.endsWith(".yaml")).sort(),
  );
  const lines = (await quern(["config", "list", "--json"])).stdout.trim().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line).name), builtinConfigs.map((c) => c.name));
});

Deno.test("quern config show: the file as it is, or as it is understood", async () => {
  const { stdout } = await quern(["config", "show", "shakespeare-char"]);
  const text = await Deno.readTextFile(`${root}configs/shakespeare-char.yaml`);
  assert.equal(stdout, text.slice(text.indexOf("\n") + 1)); // without the line for editors
  const understood = await quern(["config", "show", "llama-5m", "--json"]);
  assert.equal(JSON.parse(understood.stdout).checkpoint.keep, 2); // a default
  const slip = await quern(["config", "show", "shakespear"]);
  assert.equal(slip.code, 2);
  assert.match(slip.stderr, /^error: shakespear: quern carries no such config$/m);
  assert.match(slip.stderr, /^hint: quern carries llama-5m, /m);
});

Deno.test("quern config check: faults of all files, with their places; a code for scripts", async () => {
  await withTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "good.yaml"), tinyYaml);
    await Deno.writeTextFile(
      join(dir, "bad.yaml"),
      tinyYaml.replace("steps: 20", "stepz: 20").replace("batch_size: 4", "batch_size: 0")
        .replace("warmup:", "warmup_steps:"),
    );
    const good = await run(dir, "config", "check", "good.yaml");
    assert.equal(good.stdout, "good.yaml: ok\n");
    assert.equal((await run(dir, "config", "check", "good.yaml", "--quiet")).stdout, "");
    const bad = await attempt(dir, "config", "check", "bad.yaml", "good.yaml", "nope.yaml");
    assert.equal(bad.code, 2);
    assert.equal(bad.stdout, "good.yaml: ok\n");
    assert.match(bad.stderr, /^bad\.yaml:\d+:\d+: /);
    assert.match(bad.stderr, /^bad\.yaml:10:13: batch_size: expected a number above 0, found 0$/m);
    assert.match(bad.stderr, /^bad\.yaml:11:1: unknown key stepz \(did you mean "steps"\?\)$/m);
    assert.match(bad.stderr, /^bad\.yaml:14:58: .*warmup_steps \(did you mean "warmup"\?\)$/m);
    assert.match(bad.stderr, /^nope\.yaml: there is no such file$/m);
    assert.match(bad.stderr, /^error: 2 files of 3 cannot be used$/m);
    const json = await attempt(dir, "config", "check", "bad.yaml", "good.yaml", "--json");
    assert.equal(json.code, 2);
    const results = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(results.map(({ file, valid }) => [file, valid]), [
      ["bad.yaml", false],
      ["good.yaml", true],
    ]);
  });
});

Deno.test("quern config show and check: tasks, too", async () => {
  await withTempDir(async (dir) => {
    const { stdout } = await run(dir, "config", "show", "piqa");
    assert.match(stdout, /^# PIQA: /);
    await Deno.writeTextFile(join(dir, "mine.yaml"), stdout);
    await Deno.writeTextFile(join(dir, "bad.yaml"), stdout.replace("{{sol1}}", "{{sol1 | up}}"));
    const checked = await attempt(dir, "config", "check", "mine.yaml", "gsm8k", "bad.yaml");
    assert.equal(checked.code, 2);
    assert.equal(checked.stdout, "mine.yaml: ok\ngsm8k: ok\n");
    assert.match(checked.stderr, /^bad\.yaml:8:\d+: doc_to_choice.*: there is no function "up"/m);
  });
});

Deno.test("quern config schema: prints what configs/schema.json holds", async () => {
  const { code, stdout } = await quern(["config", "schema"]);
  assert.equal(code, 0);
  const stored = JSON.parse(await Deno.readTextFile(`${root}configs/schema.json`));
  assert.deepEqual(JSON.parse(stdout), stored);
});

Deno.test("quern config: help and slips of its own commands", async () => {
  assert.match((await quern(["config", "check", "--help"])).stdout, /^Usage: quern config check/);
  const slip = await quern(["config", "lits"]);
  assert.equal(slip.code, 2);
  assert.match(slip.stderr, /unknown command 'lits'\n\(Did you mean list\?\)/);
  assert.equal((await quern(["config", "show"])).code, 2);
});

Deno.test("quern pretrain: takes the name of a config that quern carries, unless a file has it", async () => {
  await withTempDir(async (dir) => {
    await makeProject(dir);
    const small = ["--set", "data.path=data", "--dry-run", "--json"];
    const carried = await run(dir, "pretrain", "quickstart", ...small);
    await Deno.writeTextFile(join(dir, "quickstart"), tinyYaml);
    const own = await run(dir, "pretrain", "quickstart", ...small);
    const parametersOf = ({ stdout }: { stdout: string }) => JSON.parse(stdout).parameters;
    assert.ok(parametersOf(carried) > 300_000);
    assert.ok(parametersOf(own) < 20_000);
    const missing = await attempt(dir, "pretrain", "quickstarts");
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /^error: quickstarts: there is no such file/);
    assert.match(missing.stderr, /\(did you mean "quickstart"\?\)\nhint: quern carries llama-5m, /);
  });
});

Deno.test("configs that quern carries: their paths in the sources mean them where no file has them", async () => {
  await withTempDir(async (dir) => {
    await makeProject(dir);
    const file = "configs/quickstart.yaml", note = `${file} is not here: quern's own`;
    const carried = await run(dir, "config", "check", file, "quickstart");
    assert.match(carried.stdout, /^configs\/quickstart\.yaml: ok$/m);
    assert.match(carried.stdout, /^quickstart: ok$/m);
    assert.equal(carried.stderr, `${note} quickstart is taken\n`);
    const small = ["--set", "data.path=data", "--dry-run"];
    const planned = await run(dir, "pretrain", `./${file}`, ...small);
    assert.ok(planned.stderr.includes(note), planned.stderr);
    assert.doesNotMatch((await run(dir, "pretrain", file, ...small, "--json")).stderr, /not here/);
    const [byPath, byName] = [file, "quickstart"].map((name) => run(dir, "config", "show", name));
    assert.equal((await byPath).stdout, (await byName).stdout);
    await Deno.mkdir(join(dir, "configs"));
    await Deno.writeTextFile(join(dir, file), tinyYaml.replace("steps", "stepz"));
    const own = await attempt(dir, "config", "check", file);
    assert.match(own.stderr, /^configs\/quickstart\.yaml:11:1: unknown key stepz/);
    const slip = await attempt(dir, "config", "check", "shakespeare-chr");
    assert.match(slip.stderr, /^shakespeare-chr: .*did you mean "shakespeare-char"/);
  });
});
