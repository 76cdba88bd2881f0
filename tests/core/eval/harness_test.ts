/**
 * Scores that lm-evaluation-harness itself gave (its class for transformers' models) of the same weights and tokenizer:
 * tests/vectors/harness_scores.json says which versions, and how the weights are made.
 */

import assert from "node:assert/strict";
import { openDevice } from "../../../core/device/mod.ts";
import { promptOf, type Reader } from "../../../core/eval/prompts.ts";
import type { TokenRow } from "../../../core/eval/score/rows.ts";
import { type RowScore, Scorer } from "../../../core/eval/score/scorer.ts";
import { sizeOf } from "../../../core/graph/mod.ts";
import { buildModel, completeModel, modelConfig } from "../../../core/model/mod.ts";
import { parseTokenizer } from "../../../core/text/load.ts";
import { readJson } from "../../vectors.ts";
import { opened } from "./toy.ts";

interface Recorded {
  readonly tokenizer: string;
  readonly loglikelihood: readonly {
    readonly context: string;
    readonly continuation: string;
    readonly logprob: number;
    readonly is_greedy: boolean;
  }[];
  readonly rolling: readonly { readonly text: string; readonly logprob: number }[];
}

const positions = 48;

const model = (vocab_size: number) =>
  buildModel(completeModel(
    modelConfig.parse({
      hidden_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      intermediate_size: 24,
      rms_norm_eps: 1e-6,
    }),
    { vocab_size, max_position_embeddings: positions },
  ));

/** 0.25 sin(0.37 i² + 1.3 length of the path + i), around 1 where it is a norm's gain. */
function weightsAt(path: string, shape: readonly number[]): Float64Array {
  const base = path.includes("norm") ? 1 : 0;
  return Float64Array.from(
    { length: sizeOf(shape) },
    (_, i) => base + 0.25 * Math.sin(0.37 * i * i + 1.3 * path.length + i),
  );
}

/** Some fifty f32 numbers up to 20 are added, each right to a few units of its last place. */
const tolerance = 2e-6;

Deno.test("replay: lm-evaluation-harness 942: scores are the harness's own, on the same weights and texts", async () => {
  const { loglikelihood, rolling, ...recorded } = readJson<Recorded>("harness_scores.json");
  const tokenizer = await parseTokenizer(recorded.tokenizer, "the recorded tokenizer");
  const reader: Reader = { tokenizer, beginning: undefined, tokenization: "joint", positions };
  const task = {
    description: "",
    target_delimiter: " ",
    fewshot_delimiter: "\n\n",
    output_type: "loglikelihood",
  } as const;
  const requests = [
    ...loglikelihood.map(({ context: query, continuation }) => ({
      kind: "loglikelihood" as const,
      query,
      continuation,
    })),
    ...rolling.map(({ text }) => ({ kind: "loglikelihood_rolling" as const, text })),
  ];
  const families = requests.map((request): readonly TokenRow[] => {
    const prompt = promptOf(task, [], request, reader);
    return prompt.kind === "loglikelihood" ? [prompt.row] : "rows" in prompt ? prompt.rows : [];
  });
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  using scorer = Scorer.create(opened(model(tokenizer.vocabSize), weightsAt), device);
  const scores: (readonly RowScore[])[] = [];
  for await (const { families: done } of scorer.score({ families })) {
    for (const { family, scores: found } of done) scores[family] = found;
  }
  [...loglikelihood, ...rolling].forEach((wanted, i) => {
    const sum = scores[i].flatMap(({ logprobs }) => [...logprobs]).reduce((a, b) => a + b, 0);
    const error = Math.abs(sum - wanted.logprob) / Math.max(1, Math.abs(wanted.logprob));
    assert.ok(error <= tolerance, `${JSON.stringify(wanted)}: ${sum}`);
    if ("is_greedy" in wanted) assert.equal(scores[i][0].is_greedy, wanted.is_greedy);
  });
});
