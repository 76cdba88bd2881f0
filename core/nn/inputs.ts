/** Inputs: from token ids to the residual stream. */

import { z } from "zod";
import { embedding } from "../../kernels/mod.ts";
import { definePositionwise } from "./part.ts";
import { table } from "./params.ts";

/** A row of a table for each token: ids i32 [batch, time] → [batch, time, channels]. */
export const tokenInput = definePositionwise({
  config: z.strictObject({ kind: z.literal("token") }),
  params: (_, dims) => ({ embedding: table(dims.vocab_size, dims.hidden_size, dims) }),
  apply: (p, ids) => ({ out: embedding(p.embedding, ids) }),
});

export const inputs = { token: tokenInput };
export const inputConfig = z.discriminatedUnion("kind", [tokenInput.config]);
