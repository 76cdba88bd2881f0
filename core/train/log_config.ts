/** Where a run's numbers go besides `metrics.jsonl`. */

import { z } from "zod";

export const logKinds = ["tensorboard"] as const;
export type LogKind = typeof logKinds[number];

/** `tensorboard`: event files in the run's folder `tensorboard/`. */
export const logConfig = z.array(z.enum(logKinds)).default([]);
