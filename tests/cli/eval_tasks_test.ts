import assert from "node:assert/strict";
import { join } from "node:path";
import { quern, testWithShared, withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

const task = `
task: colours
data_file: colours.jsonl
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["red", "green"]
doc_to_target: "{{answer}}"
metric_list: [{ metric: acc }]
`;
const rows = ["Blood is", "Grass is", "A leaf is", "Fire is", "A frog is"]
  .map((question, i) => `${JSON.stringify({ question, answer: [0, 1, 1, 0, 1][i] })}\n`).join("");

Deno.test("quern eval --tasks: a table, JSON in the harness's shape, samples to go on from, and a comparison", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--out", "run", "--quiet");
    await Deno.writeTextFile(join(dir, "colours.yaml"), task);
    await Deno.writeTextFile(join(dir, "colours.jsonl"), rows);
    const colours = ["eval", "run", "--tasks", "colours.yaml"];
    const table = await run(dir, ...colours, "--out", "evals/a");
    assert.match(
      table.stdout,
      /^task +shots +docs +metric +value +± stderr\ncolours +0 +5 +acc +\d\.\d{4} +± 0\.\d{4}\n$/,
    );
    assert.match(
      table.stderr,
      /^colours: 5 documents, 10 requests\n.*tokens\/s, \d+ % of them shared\n$/s,
    );
    const json = await run(dir, ...colours, "--out", "evals/a", "--json", "--quiet");
    assert.equal(json.stderr, "");
    const results = JSON.parse(json.stdout);
    assert.deepEqual(results["n-samples"].colours, { original: 5, effective: 5 });
    assert.equal(results.config.model_args, "run/checkpoints/step-20");
    assert.equal(Object.keys(results.results.colours)[1], "acc,none");
    const written = JSON.parse(await Deno.readTextFile(join(dir, "evals/a/results.json")));
    assert.deepEqual(written.results, results.results);

    await run(dir, ...colours, "--num-fewshot", "2", "--fewshot", "harness", "--out", "evals/b");
    const compared = await run(dir, "eval", "--compare", "evals/a", "evals/b", "--html", "c.html");
    assert.match(
      compared.stdout,
      /^a: evals\/a\nb: evals\/b\n\ntask .*\ncolours +acc +\d\.\d+ +\d\.\d+ +[+-]\d\.\d+ +± \d\.\d+.*\nerrors are of the same documents.*\n\n.*\ncolours acc .*│/,
    );
    assert.match(await Deno.readTextFile(join(dir, "c.html")), /<figure/);

    const other = await attempt(dir, ...colours, "--out", "evals/a", "--tokenization", "separate");
    assert.equal(other.code, 1);
    assert.match(
      other.stderr,
      /evals\/a: samples there were made with other settings: tokenization was joint.*\n.*--overwrite/,
    );
    await run(dir, ...colours, "--out", "evals/a", "--tokenization", "separate", "--overwrite");

    const refused: readonly (readonly [RegExp, ...string[]])[] = [
      [/there is no task arc_eazy \(did you mean "arc_easy"\?\)/, "run", "--tasks", "arc_eazy"],
      [/no model is named/, "--tasks", "arc_easy"],
      [/--tasks and --compare: one at a time/, "run", "--tasks=a", "--compare", "b", "c"],
      [/--compare takes two evaluations/, "--compare", "evals/a"],
      [
        /the model has no chat template\nhint: name one/,
        "run",
        "--tasks",
        "colours.yaml",
        "--chat",
      ],
    ];
    for (const [message, ...args] of refused) {
      const { code, stderr } = await attempt(dir, "eval", ...args);
      assert.ok(code === 1 || code === 2, stderr);
      assert.match(stderr, message);
    }
  }));

Deno.test("quern eval --tasks list: all that are carried, without a model", async () => {
  const { code, stdout } = await quern(["eval", "--tasks", "list"]);
  assert.equal(code, 0);
  assert.match(stdout, /^hellaswag +Rowan\/hellaswag +validation +0 +acc, acc_norm$/m);
  assert.match(stdout, /^mmlu_stem +19 tasks/m);
});

testWithShared("quern eval --tasks: a tiny model goes through all that is there", [
  "data/eval",
  "data/gsm8k_train.jsonl",
], ([data, train]) =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--out", "run", "--quiet");
    await Deno.symlink(join(data, "math.jsonl"), join(dir, "math500.jsonl"));
    const names = [
      ...["arc_easy", "arc_challenge", "openbookqa", "piqa", "winogrande", "boolq"],
      ...["lambada_openai", "gsm8k", "math500"],
    ];
    const places = [data, join(train, ".."), dir].flatMap((folder) => ["--data", folder]);
    const few = ["--limit", "3", "--max-new-tokens", "8", "--json", "--quiet"];
    const { stdout } = await run(dir, "eval", "run", "--tasks", names.join(), ...places, ...few);
    const { results } = JSON.parse(stdout);
    assert.deepEqual(Object.keys(results).sort(), [...names].sort());
    assert.ok(Number.isFinite(results.lambada_openai["perplexity,none"]));
  }));
