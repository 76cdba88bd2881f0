/** The kinds of tasks: what is asked about a document, and what the answers are worth. */

import {
  answerFunctions,
  exactMatch,
  exactMatchLite,
  extract,
  isEquivalent,
} from "../answers/mod.ts";
import type { Answer, Doc, Metric, Task, TaskRequest } from "../types.ts";
import { metricKey } from "../types.ts";
import { chosen } from "./choice.ts";
import { intField, textList } from "./fields.ts";
import type { FilterConfig, MatchConfig, TaskConfig, TaskConfigOf } from "./schema.ts";
import { render } from "./template.ts";

/** The part of a task that its kind decides. */
export type KindOfTask = Pick<Task, "metrics" | "requests" | "shot" | "target" | "measure">;

export function kindOf(config: TaskConfig): KindOfTask {
  switch (config.output_type) {
    case "multiple_choice":
      return multipleChoice(config);
    case "loglikelihood":
      return logLikelihood(config);
    case "loglikelihood_rolling":
      return rolling(config);
    case "generate_until":
      return generateUntil(config);
  }
}

function multipleChoice(config: TaskConfigOf<"multiple_choice">): KindOfTask {
  const { doc_to_text, doc_to_continuation, target_delimiter } = config;
  const query = (doc: Doc) => render(doc_to_text, doc);
  const choices = (doc: Doc) => textList(config.doc_to_choice, doc);
  const target = (doc: Doc) => choiceIndex(config, doc);
  const pairs = (doc: Doc) =>
    choices(doc).map((choice): [question: string, answer: string] =>
      doc_to_continuation === undefined
        ? [query(doc), choice]
        : [query(doc) + choice, render(doc_to_continuation, doc)]
    );
  return {
    metrics: config.metric_list.map(({ metric }) => mean(metric)),
    requests: (doc) =>
      pairs(doc).map(([query, answer]) => ({
        kind: "loglikelihood",
        query,
        continuation: target_delimiter + answer,
      })),
    shot(doc) {
      const [question, answer] = pairs(doc)[target(doc)];
      return { question, answer };
    },
    target,
    measure(doc, answers) {
      const logprobs = answers.map((answer) => expect(answer, "loglikelihood").logprob);
      return Object.fromEntries(config.metric_list.map(({ metric }) => {
        const isRight = chosen(metric, choices(doc), logprobs) === target(doc);
        return [metricKey(mean(metric)), Number(isRight)];
      }));
    },
  };
}

/** The place of the right choice. */
function choiceIndex(config: TaskConfigOf<"multiple_choice">, doc: Doc): number {
  return intField(config.doc_to_target, doc, textList(config.doc_to_choice, doc).length);
}

function logLikelihood(config: TaskConfigOf<"loglikelihood">): KindOfTask {
  const { doc_to_text, doc_to_target, target_delimiter } = config;
  const question = (doc: Doc) => render(doc_to_text, doc);
  const target = (doc: Doc) => render(doc_to_target, doc);
  const metrics = config.metric_list.map(({ metric }): Metric =>
    metric === "acc" ? mean(metric) : {
      name: metric,
      filter: "none",
      aggregation: "perplexity",
      higher_is_better: false,
    }
  );
  return {
    metrics,
    requests: (doc) => [{
      kind: "loglikelihood",
      query: question(doc),
      continuation: target_delimiter + target(doc),
    }],
    shot: (doc) => ({ question: question(doc), answer: target(doc) }),
    target,
    measure(_, [answer]) {
      const { logprob, is_greedy } = expect(answer, "loglikelihood");
      return Object.fromEntries(
        metrics.map((metric) => [
          metricKey(metric),
          metric.name === "acc" ? Number(is_greedy) : logprob,
        ]),
      );
    },
  };
}

function rolling(config: TaskConfigOf<"loglikelihood_rolling">): KindOfTask {
  const target = (doc: Doc) => render(config.doc_to_target, doc);
  const metrics = config.metric_list.map(({ metric: name }): Metric => ({
    name,
    filter: "none",
    aggregation: name === "bits_per_byte" ? "bits_per_byte" : "weighted_perplexity",
    higher_is_better: false,
  }));
  return {
    metrics,
    requests: (doc) => [{ kind: "loglikelihood_rolling", text: target(doc) }],
    shot: (doc) => ({ question: "", answer: target(doc) }),
    target,
    measure(doc, [answer]) {
      const text = target(doc), { logprob: sum } = expect(answer, "loglikelihood_rolling");
      const words = text.split(/\s+/).length, bytes = new TextEncoder().encode(text).length;
      return Object.fromEntries(metrics.map((metric) => [
        metricKey(metric),
        { sum, weight: metric.name === "word_perplexity" ? words : bytes },
      ]));
    },
  };
}

function generateUntil(config: TaskConfigOf<"generate_until">): KindOfTask {
  const { doc_to_text, doc_to_target, doc_to_gold = doc_to_target, generation_kwargs } = config;
  const question = (doc: Doc) => render(doc_to_text, doc);
  const target = (doc: Doc) => render(doc_to_gold, doc);
  const filters = (config.filter_list ?? [{ name: "none" as const }]).map((filter) => ({
    name: filter.name,
    find: finder(filter),
  }));
  const matches = config.metric_list.map((match) => ({
    name: match.metric,
    isRight: matcher(match),
  }));
  const ways = filters.flatMap(({ name: filter, find }) =>
    matches.map(({ name, isRight }) => ({ metric: mean(name, filter), find, isRight }))
  );
  const request = (doc: Doc): TaskRequest => ({
    kind: "generate_until",
    query: question(doc),
    stops: generation_kwargs.until,
    max_new_tokens: generation_kwargs.max_gen_toks,
  });
  return {
    metrics: ways.map(({ metric }) => metric),
    requests: (doc) => [request(doc)],
    shot: (doc) => ({ question: question(doc), answer: render(doc_to_target, doc) }),
    target,
    measure(doc, [answer]) {
      const { text } = expect(answer, "generate_until"), gold = target(doc);
      return Object.fromEntries(ways.map(({ metric, find, isRight }) => [
        metricKey(metric),
        Number(isRight(find(text), gold)),
      ]));
    },
  };
}

function finder(filter: FilterConfig | { readonly name: "none" }): (output: string) => string {
  if ("function" in filter) return answerFunctions[filter.function];
  if (!("regex_pattern" in filter)) return (output) => output;
  const pattern = new RegExp(filter.regex_pattern, "g");
  return (output) => extract(output, pattern, filter.take);
}

function matcher(match: MatchConfig): (found: string, gold: string) => boolean {
  if (match.metric === "exact_match_lite") return exactMatchLite;
  if ("equality" in match) return isEquivalent;
  const ignored = match.regexes_to_ignore.map((source) => new RegExp(source, "g"));
  return (found, gold) => exactMatch(found, gold, { ignored, ignoreCase: match.ignore_case });
}

function mean(name: string, filter = "none"): Metric {
  return { name, filter, aggregation: "mean", higher_is_better: true };
}

function expect<Kind extends Answer["kind"]>(
  answer: Answer | undefined,
  kind: Kind,
): Extract<Answer, { kind: Kind }> {
  if (answer?.kind === kind) return answer as Extract<Answer, { kind: Kind }>;
  throw new TypeError(`expected an answer of kind ${kind}, got ${answer?.kind}`);
}
