import assert from "node:assert/strict";
import { join } from "node:path";
import { builtinTasks } from "../../../cli/builtin_tasks.ts";
import { catalog, taskOpener, taskSchema } from "../../../core/eval/tasks/mod.ts";
import { UserError } from "../../../core/io/errors.ts";
import { root, withTempDir } from "../../support.ts";

const open = taskOpener(builtinTasks);

Deno.test("task files: quern carries every file of configs/tasks, under the name that it states", () => {
  const files = [...Deno.readDirSync(`${root}configs/tasks`)].map(({ name }) => name);
  assert.deepEqual(
    files.filter((name) => name.endsWith(".yaml")).sort(),
    builtinTasks.map(({ name }) => `${name}.yaml`).sort(),
  );
  const { tasks, groups } = catalog(builtinTasks);
  for (const { name } of builtinTasks) assert.ok(tasks.has(name) || groups.has(name), name);
});

Deno.test("task files: schema.json is what `quern config schema eval` prints, and each file names it", async () => {
  const folder = `${root}configs/tasks`;
  assert.deepEqual(
    JSON.parse(await Deno.readTextFile(`${folder}/schema.json`)),
    JSON.parse(JSON.stringify(taskSchema())),
    "run: quern config schema eval > configs/tasks/schema.json, then deno fmt",
  );
  for (const { name, text } of builtinTasks) {
    assert.match(text, /^# yaml-language-server: \$schema=schema\.json\n# .*\.\n/, name);
  }
});

Deno.test("task files: groups stand for their tasks, and a task may be named in two ways", async () => {
  const { tasks, groups } = await open(["mmlu", "mmlu_stem", "mmlu_anatomy", "minerva_math"]);
  assert.equal(tasks.length, 57 + 7);
  const sizes = groups.map(({ name, tasks, metrics }) => [name, tasks.length, ...metrics]);
  assert.deepEqual(sizes, [
    ["mmlu", 57, "acc,none"],
    ["mmlu_stem", 19, "acc,none"],
    ["minerva_math", 7, "exact_match_lite,none"],
  ]);
  const count = tasks.find(({ name }) => name === "minerva_math_counting_and_prob")!;
  assert.equal(count.dataset.name, "counting_and_probability");
  const virology = tasks.find(({ name }) => name === "mmlu_virology")!;
  assert.match(virology.description, /about virology\.\n\n$/);
  assert.deepEqual(virology.dataset, {
    path: "cais/mmlu",
    name: "virology",
    test_split: "test",
    fewshot_split: "dev",
  });
});

async function refused(name: string): Promise<UserError> {
  const error = await open([name]).then(() => undefined, (error: unknown) => error);
  assert.ok(error instanceof UserError, `${name} is taken`);
  return error;
}

Deno.test("task files: an unknown name is answered with the nearest and with what there is", async () => {
  const { message, hint } = await refused("arc_eazy");
  assert.match(message, /no task arc_eazy \(did you mean "arc_easy"\?\)/);
  assert.match(hint!, /arc_challenge, arc_easy, boolq/);
  assert.doesNotMatch(hint!, /mmlu_anatomy/);
});

const sums = `task: sums
data_file: sums.jsonl
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
generation_kwargs: { until: ["\\n"], max_gen_toks: 8 }
metric_list: [{ metric: exact_match }]
`;

/** A file of a user's, and what opening it comes to. */
async function opened(text: string) {
  return await withTempDir(async (dir) => {
    const path = join(dir, "mine.yaml");
    await Deno.writeTextFile(path, text);
    return { ...await open([path]), dir };
  });
}

Deno.test("task files: a user's own, with rows beside it", async () => {
  const { tasks: [task], dir } = await opened(sums);
  assert.equal(task.dataset.file, join(dir, "sums.jsonl"));
  const [doc] = task.documents([{ question: "1+2=", answer: 3 }]);
  assert.deepEqual(task.requests(doc), [
    { kind: "generate_until", query: "1+2=", stops: ["\n"], max_new_tokens: 8 },
  ]);
  const value = (text: string) => task.measure(doc, [{ kind: "generate_until", text, tokens: 1 }]);
  assert.deepEqual(value("3"), { "exact_match,none": 1 });
  assert.deepEqual(value("4"), { "exact_match,none": 0 });
  assert.equal(task.config.task, "sums");
});

Deno.test("task files: shots may stand in the file itself, shaped as documents are", async () => {
  const { tasks: [task] } = await opened(`${sums}fewshot_docs:
  - { question: "2+2=", answer: "4" }
num_fewshot: 1
`);
  assert.deepEqual(task.fewshot_docs!.map((doc) => task.shot(doc)), [
    { question: "2+2=", answer: "4" },
  ]);
});

Deno.test("task files: a whole text is scored by words and bytes", async () => {
  const { tasks: [task] } = await opened(`task: mine
data_file: texts.jsonl
output_type: loglikelihood_rolling
doc_to_target: "{{text}}"
metric_list: [{ metric: word_perplexity }, { metric: byte_perplexity }, { metric: bits_per_byte }]
`);
  const [doc] = task.documents([{ text: "a café  of two" }]);
  const answer = { kind: "loglikelihood_rolling", logprob: -3, tokens: 5 } as const;
  assert.deepEqual(task.requests(doc), [{ kind: answer.kind, text: "a café  of two" }]);
  assert.deepEqual(task.measure(doc, [answer]), {
    "word_perplexity,none": { sum: -3, weight: 4 },
    "byte_perplexity,none": { sum: -3, weight: 15 },
    "bits_per_byte,none": { sum: -3, weight: 15 },
  });
});

Deno.test("task files: faults are named by file and line", async () => {
  const faults: readonly [text: string, message: RegExp][] = [
    [sums.replace("metric_list", "metrics_list"), /metrics_list.*did you mean "metric_list"/s],
    [sums.replace("{{question}}", "{{question | upper}}"), /no function "upper"/],
    [sums.replace("{{question}}", "{{question.strip()}}"), /not a field, such as/],
    [sums.replace("{{question}}", "{% if x %}"), /no other marks/],
    [sums.replace("exact_match", "exact_mach"), /exact_match/],
    [sums.replace("data_file: sums.jsonl\n", ""), /dataset_path or data_file/],
    [sums + "process_docs: shuffle\n", /hellaswag/],
    [sums + "filter_list: [{ name: x, regex_pattern: '(' }]\n", /Invalid regular expression/],
  ];
  for (const [text, message] of faults) {
    await assert.rejects(opened(text), (error) => {
      assert.ok(error instanceof UserError);
      const said = `${error.message} ${error.where} ${error.hint}`;
      assert.match(said, message);
      assert.match(said, /mine\.yaml:\d+/);
      return true;
    });
  }
});

Deno.test("task files: two tasks of one name are refused", async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, "mine.yaml");
    await Deno.writeTextFile(path, sums.replace("task: sums", "task: piqa"));
    await assert.rejects(open(["piqa", path]), /two tasks are called piqa/);
  });
});

Deno.test("task files: a row that lacks a field is named, with the field and the nearest", async () => {
  const { tasks: [task] } = await opened(sums);
  const rows = [{ question: "1+1=", answer: "2" }, { qestion: "1+2=", answer: "3" }];
  assert.throws(
    () => task.documents(rows),
    (error) =>
      error instanceof UserError && error.where === "row 2" &&
      /field "question" is not there \(did you mean "qestion"\?\)/.test(error.message),
  );
  const { tasks: [piqa] } = await open(["piqa"]);
  const row = { goal: "g", sol1: "a", sol2: "b" };
  for (const label of [2, -1, "x", "", null]) {
    assert.throws(() => piqa.documents([{ ...row, label }]), UserError, String(label));
  }
  const arc = (await open(["arc_easy"])).tasks[0], choices = { text: ["a"], label: ["A"] };
  const documents = () => arc.documents([{ question: "q", choices, answerKey: "E" }]);
  assert.throws(documents, /the right choice is "E", but there are A/);
});
