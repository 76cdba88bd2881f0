/** Mixers: what moves information from token to token. */

import { z } from "zod";
import { attention } from "./attention.ts";
import { gatedDeltaMixer } from "./gated_delta.ts";

export const mixers = { attention, gated_delta: gatedDeltaMixer };
export const mixerConfig = z.discriminatedUnion("kind", [
  attention.config,
  gatedDeltaMixer.config,
]);
