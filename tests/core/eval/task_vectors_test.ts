/** Every case of the harness's semantics that was written down beside the specification. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { builtinTasks } from "../../../cli/builtin_tasks.ts";
import {
  cleaned,
  isEquivalent,
  lastBoxed,
  minervaAnswer,
  minervaSteps,
  normalizeMinerva,
} from "../../../core/eval/answers/mod.ts";
import { catalog } from "../../../core/eval/tasks/mod.ts";
import { chosen } from "../../../core/eval/tasks/choice.ts";
import { shapes } from "../../../core/eval/tasks/shape.ts";
import type { Answer, Doc, Task } from "../../../core/eval/types.ts";
import { stopWatch } from "../../../core/generate/stops.ts";
import { readJson } from "../../vectors.ts";

interface ChoiceCase {
  readonly row: Doc;
  readonly prompt: string;
  readonly query?: string;
  readonly continuations: readonly string[];
  readonly gold: number;
}

interface MinervaLists {
  readonly replacements: readonly (readonly [string, string])[];
  readonly deletions: readonly string[];
}

const vectors = readJson<Record<string, never>>("spec/eval_tasks.json");
const { tasks } = catalog(builtinTasks);
const task = (name: string) => tasks.get(name)!;

/** The only document that a row becomes. */
function documentOf(task: Task, row: Doc): Doc {
  return task.documents([row])[0];
}

const likelihood = (logprob: number, is_greedy = false): Answer => ({
  kind: "loglikelihood",
  logprob,
  is_greedy,
  tokens: 1,
});

const choiceCases = {
  hellaswag: "hellaswag",
  arc: "arc_challenge",
  piqa: "piqa",
  boolq: "boolq",
  sciq: "sciq",
  openbookqa: "openbookqa",
  mmlu: "mmlu_elementary_mathematics",
};

for (const [key, name] of Object.entries(choiceCases)) {
  Deno.test(`eval tasks: the row of ${name} becomes the recorded query, choices and answer`, () => {
    const { row, prompt, query = prompt, continuations, gold }: ChoiceCase = vectors[key];
    const doc = documentOf(task(name), row);
    assert.deepEqual(
      task(name).requests(doc),
      continuations.map((continuation) => ({ kind: "loglikelihood", query, continuation })),
    );
    assert.equal(task(name).target(doc), gold);
  });
}

Deno.test("eval tasks: ARC's labels may be numbers, and three", () => {
  const { row, gold }: ChoiceCase = vectors.arc_numeric_labels;
  const doc = documentOf(task("arc_easy"), row);
  assert.equal(task("arc_easy").target(doc), gold);
  assert.equal(task("arc_easy").requests(doc).length, 3);
});

Deno.test("eval tasks: accuracy by sum, characters and bytes takes the recorded choices; of equals the first", () => {
  const { choices, loglik, pred, pred_norm, pred_bytes }: {
    choices: string[];
    loglik: number[];
    pred: number;
    pred_norm: number;
    pred_bytes: number;
  } = vectors.multiple_choice;
  assert.equal(chosen("acc", choices, loglik), pred);
  assert.equal(chosen("acc_norm", choices, loglik), pred_norm);
  assert.equal(chosen("acc_bytes", choices, loglik), pred_bytes);
  const tie: { loglik: number[]; pred: number } = vectors.tie_rule;
  assert.equal(chosen("acc", ["a", "b", "c"], tie.loglik), tie.pred);
});

Deno.test("eval tasks: the measured accuracies of the recorded log-likelihoods", () => {
  const { choices, loglik, gold, acc, acc_norm }: {
    choices: string[];
    loglik: number[];
    gold: number;
    acc: number;
    acc_norm: number;
  } = vectors.multiple_choice;
  const arc = task("arc_easy"), label = ["A", "B", "C", "D"];
  const doc = documentOf(arc, {
    question: "?",
    choices: { text: choices, label },
    answerKey: label[gold],
  });
  assert.deepEqual(arc.measure(doc, loglik.map((logprob) => likelihood(logprob))), {
    "acc,none": acc,
    "acc_norm,none": acc_norm,
  });
});

Deno.test("eval tasks: WinoGrande scores what stands behind the blank, after either name", () => {
  const { row, contexts, continuation, gold, token_logprobs, acc, fewshot_rendering }: {
    row: Doc;
    contexts: string[];
    continuation: string;
    gold: number;
    token_logprobs: number[][];
    acc: number;
    fewshot_rendering: string;
  } = vectors.winogrande;
  const winogrande = task("winogrande"), doc = documentOf(winogrande, row);
  assert.deepEqual(
    winogrande.requests(doc),
    contexts.map((query) => ({ kind: "loglikelihood", query, continuation })),
  );
  assert.equal(winogrande.target(doc), gold);
  const sums = token_logprobs.map((row) => likelihood(row.reduce((sum, x) => sum + x)));
  assert.deepEqual(winogrande.measure(doc, sums), { "acc,none": acc });
  assert.equal(rendered(winogrande, doc), fewshot_rendering);
});

/** A shot as it stands before a query. */
function rendered(task: Task, doc: Doc): string {
  const { question, answer } = task.shot(doc);
  return question + task.target_delimiter + answer + task.fewshot_delimiter;
}

Deno.test("eval tasks: LAMBADA asks for the last word; perplexity and accuracy are of words", () => {
  const { text, context, continuation, loglik, perplexity }: {
    text: string;
    context: string;
    continuation: string;
    loglik: number[];
    perplexity: number;
  } = vectors.lambada;
  const lambada = task("lambada_openai"), doc = documentOf(lambada, { text });
  const request = { kind: "loglikelihood", query: context, continuation };
  assert.deepEqual(lambada.requests(doc), [request]);
  const values = loglik.map((logprob, i) =>
    lambada.measure(doc, [likelihood(logprob, i === 0)]) as Record<string, number>
  );
  assert.deepEqual(values.map((value) => value["acc,none"]), [1, 0]);
  const mean = values.reduce((sum, value) => sum + value["perplexity,none"], 0) / values.length;
  assert.ok(Math.abs(Math.exp(-mean) - perplexity) < 1e-12);
  const { aggregation } = lambada.metrics.find(({ name }) => name === "perplexity")!;
  assert.equal(aggregation, "perplexity");
});

Deno.test("eval tasks: MMLU's description and a shot stand before the question", () => {
  const { row, description, one_shot }: { row: Doc; description: string; one_shot: string } =
    vectors.mmlu;
  const mmlu = task("mmlu_elementary_mathematics");
  assert.equal(mmlu.description, description);
  const shot = documentOf(mmlu, {
    question: "What is 1 + 1?",
    choices: ["1", "2", "3", "4"],
    answer: 1,
    subject: "elementary_mathematics",
  });
  const [request] = mmlu.requests(documentOf(mmlu, row));
  assert.ok(request.kind === "loglikelihood");
  assert.equal(description + rendered(mmlu, shot) + request.query, one_shot);
});

interface Gsm8kCase {
  readonly gold: string;
  readonly response: string;
  readonly gold_clean: string;
  readonly strict: string;
  readonly strict_clean: string;
  readonly strict_em: number;
  readonly flexible: string;
  readonly flexible_clean: string;
  readonly flexible_em: number;
}

(vectors.gsm8k_filters as Gsm8kCase[]).forEach((recorded, i) => {
  Deno.test(`eval tasks: gsm8k's filters and exact match, case ${i + 1}`, () => {
    const gsm8k = task("gsm8k");
    const doc = documentOf(gsm8k, { question: "?", answer: recorded.gold });
    const answer: Answer = { kind: "generate_until", text: recorded.response, tokens: 1 };
    assert.deepEqual(gsm8k.measure(doc, [answer]), {
      "exact_match,strict-match": recorded.strict_em,
      "exact_match,flexible-extract": recorded.flexible_em,
    });
    const rules = {
      ignored: [/,/g, /\$/g, /(?s:.*)#### /g, /\.$/g],
      ignoreCase: true,
    };
    assert.equal(cleaned(recorded.gold, rules), recorded.gold_clean);
    assert.equal(cleaned(recorded.strict, rules), recorded.strict_clean);
    assert.equal(cleaned(recorded.flexible, rules), recorded.flexible_clean);
  });
});

Deno.test("eval tasks: gsm8k ends at its stops, and shots show the whole answer", () => {
  const { generation, until, kept }: { generation: string; until: string[]; kept: string } =
    vectors.stop_truncation;
  const gsm8k = task("gsm8k"), doc = documentOf(gsm8k, { question: "1+1?", answer: "2\n#### 2" });
  assert.deepEqual(gsm8k.requests(doc), [{
    kind: "generate_until",
    query: "Question: 1+1?\nAnswer:",
    stops: until,
    max_new_tokens: 256,
  }]);
  const watch = stopWatch(until);
  assert.equal(watch.push(generation) + watch.end(), kept);
  assert.equal(rendered(gsm8k, doc), "Question: 1+1?\nAnswer: 2\n#### 2\n\n");
  assert.equal(gsm8k.num_fewshot, 5);
});

Deno.test("eval tasks: the final answer of Minerva's prompts is found, or said to be missing", () => {
  for (const { text, extracted } of vectors.minerva_extraction as Record<string, string>[]) {
    assert.equal(minervaAnswer(text), extracted);
  }
});

Deno.test("eval tasks: Minerva's normalisation gives the recorded texts", () => {
  for (const { in: answer, out } of vectors.minerva_normalise as Record<string, string>[]) {
    assert.equal(normalizeMinerva(answer), out, answer);
  }
});

Deno.test("eval tasks: Minerva's steps are the recorded ones, in their order", () => {
  const recorded: MinervaLists = {
    replacements: vectors.minerva_replacements_in_order,
    deletions: vectors.minerva_deletions_in_order,
  };
  assert.deepEqual(minervaSteps, recorded);
});

Deno.test("eval tasks: Minerva's normalisation is the recorded lists applied in their order", () => {
  const parts = [
    ..."$=,{}\\ ^\n.a12",
    "\\text{",
    "\\frac",
    "sqrt",
    "and}",
    "\\boxed{",
    " units",
    "ft",
  ];
  const texts = fc.array(fc.constantFrom(...parts), { maxLength: 14 }).map((list) => list.join(""));
  fc.assert(fc.property(texts, (text) => assert.equal(normalizeMinerva(text), byLists(text))), {
    numRuns: 2000,
  });
});

/** The recorded replacements, deletions and patterns, taken literally. */
function byLists(answer: string): string {
  let text = answer.split("=").at(-1)!;
  for (const [from, to] of vectors.minerva_replacements_in_order as string[][]) {
    text = text.split(from).join(to);
  }
  for (const deleted of vectors.minerva_deletions_in_order as string[]) {
    text = text.split(deleted).join("");
  }
  for (const [pattern, to] of vectors.minerva_regexes_in_order as string[][]) {
    const python = new RegExp(pattern.replaceAll(".", "[^\\n]"), "g");
    text = text.replace(
      python,
      (...groups) => to.replaceAll(/\\(\d)/g, (_, group) => groups[group]),
    );
  }
  text = text.split("$").join("");
  return /^[\d,]*\d[\d,]*$/.test(text) ? text.replaceAll(",", "") : text;
}

Deno.test("eval tasks: answers of MATH are equal as its authors compare them", () => {
  type Case = { a: string; b: string; equal: boolean };
  for (const { a, b, equal } of vectors.hendrycks_equivalence as Case[]) {
    assert.equal(isEquivalent(a, b), equal, `${a} ${b}`);
    assert.equal(isEquivalent(b, a), equal, `${b} ${a}`);
  }
});

Deno.test("eval tasks: the last boxed answer is found", () => {
  for (const { s, boxed } of vectors.boxed as { s: string; boxed: string | null }[]) {
    assert.equal(lastBoxed(s) ?? null, boxed, s);
  }
});

Deno.test("eval tasks: HellaSwag's text loses its marks", () => {
  const { row, query, choices }: { row: Doc; query: string; choices: string[] } = vectors.hellaswag;
  assert.deepEqual(shapes.hellaswag(row), { query, choices });
});
