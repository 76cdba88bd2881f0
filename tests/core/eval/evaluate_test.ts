import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../../support.ts";
import { readSamples, samplesPath } from "../../../core/eval/results/samples.ts";
import type { EvalEvent } from "../../../core/eval/evaluate.ts";
import {
  bigramOpened,
  type Evaluated,
  evaluateFiles,
  greedyText,
  settings,
  textLogprob,
} from "./opened.ts";

const choices = `
task: choices
data_file: choices.jsonl
output_type: multiple_choice
doc_to_text: "Q: {{question}}?\\nA:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{ metric: acc }, { metric: acc_norm }, { metric: acc_bytes }]
`;
const questions = [
  { question: "abc", choices: ["a", "bad cafe", "i"], answer: 1 },
  { question: "de", choices: ["ab", "jig", "c.c", "0"], answer: 2 },
  { question: "jjig", choices: ["bead", "e"], answer: 0 },
  { question: "a bee", choices: ["1", "0 1", "00"], answer: 1 },
  { question: "", choices: ["a", "b"], answer: 1 },
];
const words = `
task: last_word
data_file: words.jsonl
output_type: loglikelihood
doc_to_text: "{{start}}"
doc_to_target: "{{end}}"
metric_list: [{ metric: acc }, { metric: perplexity }]
`;
const rolling = `
task: whole_text
data_file: texts.jsonl
output_type: loglikelihood_rolling
doc_to_target: "{{text}}"
metric_list: [{ metric: word_perplexity }, { metric: byte_perplexity }, { metric: bits_per_byte }]
`;
const generated = `
task: generated
data_file: words.jsonl
output_type: generate_until
doc_to_text: "{{start}}"
doc_to_target: "{{made}}"
generation_kwargs: { until: ["?"], max_gen_toks: 6 }
metric_list: [{ metric: exact_match }]
`;

const lines = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");

const starts = ["abc", "jig a", "0", "a bad cafe"];
const texts = ["abc abc", "a bad cafe is a bad idea: jig. ".replaceAll("s", "a").repeat(4), "j"];

async function writeTasks(dir: string): Promise<string[]> {
  const made = starts.map((start, i) => {
    const whole = greedyText(start, 6), cut = whole.split("?")[0];
    return { start, end: i < 2 ? greedyText(`${start} `, 2) : "j", made: i === 1 ? "no" : cut };
  });
  const files = {
    "choices.jsonl": lines(questions),
    "words.jsonl": lines(made),
    "texts.jsonl": lines(texts.map((text) => ({ text }))),
    "choices.yaml": choices,
    "words.yaml": words,
    "rolling.yaml": rolling,
    "generated.yaml": generated,
  };
  for (const [name, text] of Object.entries(files)) {
    await Deno.writeTextFile(join(dir, name), text);
  }
  return ["choices", "words", "rolling", "generated"].map((name) => join(dir, `${name}.yaml`));
}

const close = (found: unknown, wanted: number) =>
  assert.ok(
    Math.abs(Number(found) - wanted) <= 2e-6 * Math.max(1, Math.abs(wanted)),
    `${found} ${wanted}`,
  );
const mean = (values: number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
const indexOfMost = (values: number[]) => values.indexOf(Math.max(...values));

Deno.test("evaluate: a table of bigrams scores on each kind of task as computed by hand", () =>
  withTempDir(async (dir) => {
    const { results: { results, ...rest }, events } = await evaluateFiles(await writeTasks(dir));
    const scores = questions.map(({ question, choices }) =>
      choices.map((choice) => textLogprob(`Q: ${question}?\nA:`, ` ${choice}`))
    );
    const accuracy = (norm: (choice: string) => number) =>
      mean(
        questions.map(({ choices, answer }, i) =>
          Number(indexOfMost(scores[i].map((x, c) => x / norm(choices[c]))) === answer)
        ),
      );
    close(results.choices["acc,none"], accuracy(() => 1));
    close(results.choices["acc_norm,none"], accuracy((choice) => choice.length));
    close(results.choices["acc_bytes,none"], accuracy((choice) => choice.length));
    assert.notEqual(results.choices["acc,none"], results.choices["acc_norm,none"]);

    const made = starts.map((start, i) => i < 2 ? greedyText(`${start} `, 2) : "j");
    const logprobs = starts.map((start, i) => textLogprob(start, ` ${made[i]}`));
    close(results.last_word["perplexity,none"], Math.exp(-mean(logprobs)));
    const isGreedy = starts.map((start, i) =>
      greedyText(start, made[i].length + 1) === ` ${made[i]}`
    );
    close(results.last_word["acc,none"], mean(isGreedy.map(Number)));

    // windows of 64 tokens, whose first token sees the one before: as in one piece
    const nats = texts.map((text) => -textLogprob("", text)),
      sum = (x: number[]) => mean(x) * x.length;
    const bytes = sum(texts.map((text) => text.length));
    close(results.whole_text["bits_per_byte,none"], sum(nats) / Math.LN2 / bytes);
    close(results.whole_text["byte_perplexity,none"], Math.exp(sum(nats) / bytes));
    const counted = sum(texts.map((text) => text.split(/\s+/).length));
    close(results.whole_text["word_perplexity,none"], Math.exp(sum(nats) / counted));

    close(results.generated["exact_match,none"], 0.75);
    assert.deepEqual(rest["n-samples"].choices, { original: 5, effective: 5 });
    assert.deepEqual(Object.keys(rest.versions), [
      "choices",
      "last_word",
      "whole_text",
      "generated",
    ]);
    assert.equal(events.filter(({ kind }) => kind === "task").length, 4);
  }));

/** Runs until so many documents of any task are done, and stops as at Ctrl-C. */
async function stopAfter(
  count: number,
  run: (options: {
    signal: AbortSignal;
    onEvent: (event: EvalEvent) => void;
  }) => Promise<Evaluated>,
): Promise<void> {
  const controller = new AbortController();
  let batches = 0;
  const onEvent = (event: EvalEvent) => {
    if (event.kind === "progress" && ++batches === count) controller.abort(new Error("stopped"));
  };
  await assert.rejects(run({ signal: controller.signal, onEvent }), /stopped/);
}

Deno.test("evaluate: stopped anywhere it goes on from its samples to the same bytes", () =>
  withTempDir(async (dir) => {
    const files = await writeTasks(dir), whole = join(dir, "whole"), parts = join(dir, "parts");
    const small = { ...settings, batch: 2 };
    const once = await evaluateFiles(files, { out: whole, settings: small });
    for (const count of [1, 2, 4]) {
      await stopAfter(
        count,
        ({ signal, onEvent }) =>
          evaluateFiles(files, { out: parts, settings: small, signal }, onEvent),
      );
    }
    // a crash leaves half a line
    const path = samplesPath(parts, "choices");
    const written = await Deno.readTextFile(path);
    assert.ok(written.split("\n").length > 1);
    await Deno.writeTextFile(path, written.slice(0, -20));
    const resumed = await evaluateFiles(files, { out: parts, settings: small });
    const start = resumed.events.find((event) => event.kind === "task");
    assert.ok(start?.kind === "task" && start.known > 0);
    assert.deepEqual(resumed.results.results, once.results.results);
    for (const task of ["choices", "last_word", "whole_text", "generated"]) {
      assert.equal(
        await Deno.readTextFile(samplesPath(parts, task)),
        await Deno.readTextFile(samplesPath(whole, task)),
      );
    }
    const again = await evaluateFiles(files, { out: whole, settings: small });
    assert.ok(again.events.every(({ kind }) => kind !== "progress"));
    assert.deepEqual(again.results.results, once.results.results);
  }));

Deno.test("evaluate: samples of other settings, data or weights are not joined", () =>
  withTempDir(async (dir) => {
    const [file] = await writeTasks(dir), out = join(dir, "out");
    await evaluateFiles([file], { out });
    const other = (changes: object) =>
      evaluateFiles([file], { out, settings: { ...settings, ...changes } });
    await assert.rejects(
      other({ tokenization: "separate" }),
      /tokenization was joint, is separate/,
    );
    await assert.rejects(other({ batch: 2 }), /batch was null, is 2/);
    await assert.rejects(other({ num_fewshot: 1 }), /choices was asked otherwise/);
    await assert.rejects(other({ limit: 2 }), /choices was asked otherwise/);
    const opened = bigramOpened(), { file: weights } = opened;
    const changed = {
      ...weights,
      read: (name: string) => (weights.read(name) as Float32Array).map((x) => x + 1),
    };
    await assert.rejects(
      evaluateFiles([file], { out, opened: { ...opened, file: changed } }),
      /model_sha256 was [0-9a-f]{12}…, is/,
    );
  }));

Deno.test("evaluate: samples say what was asked, what came and what it is worth", () =>
  withTempDir(async (dir) => {
    const files = await writeTasks(dir), out = join(dir, "out");
    const limited = { ...settings, num_fewshot: 1, limit: 3 };
    const { results } = await evaluateFiles(files, { out, settings: limited });
    assert.deepEqual(results["n-shot"].choices, 1);
    assert.deepEqual(results["n-samples"].choices, { original: 5, effective: 3 });
    const [first, second] = await readSamples(samplesPath(out, "choices"));
    // the document itself is not its own shot
    const shot = "Q: abc?\nA: bad cafe\n\n";
    assert.deepEqual(second.arguments[0], [`${shot}Q: de?\nA:`, " ab"]);
    assert.match(first.arguments[0][0], /^Q: de\?\nA: c\.c\n\nQ: abc/);
    assert.deepEqual([second.doc_id, second.target], [1, 2]);
    assert.deepEqual(second.tokens, [3, 4, 4, 2]);
    close((second.resps[1] as [number, boolean])[0], textLogprob("A:", " jig"));
    const [made] = await readSamples(samplesPath(out, "generated"));
    assert.equal(typeof made.resps[0], "string");
    assert.equal(made.tokens[0] <= 6, true);
  }));

Deno.test("evaluate: data that are missing are said before any work", () =>
  withTempDir(async (dir) => {
    const files = await writeTasks(dir), events: EvalEvent[] = [];
    const absent = join(dir, "absent.yaml");
    const hub = "dataset_path: somebody/absent\nfewshot_split: train\nnum_fewshot: 2";
    await Deno.writeTextFile(
      absent,
      choices.replace("task: choices", "task: absent").replace("data_file: choices.jsonl", hub),
    );
    const attempt = () =>
      evaluateFiles(
        [...files, absent],
        { places: { folders: [dir] } },
        (event) => events.push(event),
      );
    await assert.rejects(attempt, /absent: the split test of somebody\/absent is not there/);
    await Deno.copyFile(join(dir, "choices.jsonl"), join(dir, "absent.jsonl"));
    await assert.rejects(attempt, /the split train .* is not there \(for its 2 shots\)/);
    assert.deepEqual(events, []);
  }));

Deno.test("evaluate: characters that a tokenizer does not know are left out, and told", () =>
  withTempDir(async (dir) => {
    const [file] = await writeTasks(dir);
    await Deno.writeTextFile(
      join(dir, "choices.jsonl"),
      lines([{ question: "zaéz", choices: ["a", "yb"], answer: 0 }]),
    );
    const { events, results } = await evaluateFiles([file]);
    const told = events.find((event) => event.kind === "unknown");
    assert.ok(told?.kind === "unknown");
    assert.deepEqual([...told.characters.keys()].sort(), ["y", "z", "é"]);
    close(
      results.results.choices["acc,none"],
      Number(textLogprob("A:", " a") >= textLogprob("A:", " b")),
    );
  }));

Deno.test("evaluate: rows longer than the context keep their ends, and are counted", () =>
  withTempDir(async (dir) => {
    const [file] = await writeTasks(dir);
    const { events, results } = await evaluateFiles([file], { opened: bigramOpened(8) });
    const start = events.find((event) => event.kind === "task");
    assert.ok(start?.kind === "task" && start.cut > 0);
    // a table of bigrams needs no more than the token before
    const whole = await evaluateFiles([file]);
    assert.deepEqual(
      results.results.choices["acc,none"],
      whole.results.results.choices["acc,none"],
    );
  }));
