/** The part of a config that asks for texts while a model trains. */

import { z } from "zod";
import { samplingDefaults } from "../generate/defaults.ts";
import { spanConfig } from "../optim/mod.ts";

const counted = z.int().nonnegative(), share = z.number().min(0).max(1);

/** Everything but `every` and `prompts` is what `quern generate` calls so. */
export const samplesConfig = z.strictObject({
  /** From one time to the next; the end of a run gives texts, too. 0 is none at all. */
  every: spanConfig.default(0),
  /** Each is continued. */
  prompts: z.array(z.string()).min(1).default([""]),
  max_tokens: z.int().positive().default(64),
  temperature: z.number().nonnegative().default(samplingDefaults.temperature),
  top_k: counted.default(samplingDefaults.topK),
  top_p: share.default(samplingDefaults.topP),
  min_p: share.default(samplingDefaults.minP),
  penalty: z.strictObject({
    repetition: z.number().min(0.01).max(100).default(1),
    presence: z.number().min(-100).max(100).default(0),
    frequency: z.number().min(-100).max(100).default(0),
  }).prefault({}),
  stop: z.array(z.string().min(1)).default([]),
});

export type SamplesConfig = z.output<typeof samplesConfig>;
