/**
 * Heads: from the last hidden state to logits. The weight is handed out, so that the loss need not
 * hold the logits.
 */

import { z } from "zod";
import { div, linear, mul, tanh } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import { matrix } from "./params.ts";
import type { Dims, ParamTree, TensorTree } from "./part.ts";

export interface BoundHead {
  readonly params: ParamTree;
  /** Logits become cap · tanh(logit / cap); 0 leaves them. */
  readonly softcap: number;
  /** [vocab, channels]: its own, or the input's table where they are tied. */
  weight(params: TensorTree, inputTable: Tensor): Tensor;
  logits(weight: Tensor, hidden: Tensor): Tensor;
}

const config = z.strictObject({
  kind: z.literal("linear"),
  /** The head is the input's table. */
  tie_word_embeddings: z.boolean().default(true),
  softcap: z.number().nonnegative().default(0),
});

export const linearHead = {
  config,
  bind({ tie_word_embeddings, softcap }: z.output<typeof config>, dims: Dims): BoundHead {
    return {
      params: tie_word_embeddings
        ? {}
        : { weight: matrix(dims.vocab_size, dims.hidden_size, dims) },
      softcap,
      weight: (params, inputTable) =>
        tie_word_embeddings ? inputTable : (params as { weight: Tensor }).weight,
      logits(weight, hidden) {
        const plain = linear(hidden, weight);
        return softcap > 0 ? mul(softcap, tanh(div(plain, softcap))) : plain;
      },
    };
  },
};

export const heads = { linear: linearHead };
export const headConfig = z.discriminatedUnion("kind", [config]);
