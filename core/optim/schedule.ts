/**
 * Schedules: a scalar as a function of the step, for the learning rate and whatever else changes over a run. A rise,
 * a height, perhaps a fall; phases of no length are legal, and step 0 never yields 0.
 */

import { z } from "zod";

const steps = z.int().nonnegative();
const warmup_steps = steps.default(0);
const peak = z.number().positive();
const end = z.number().nonnegative();

const constant = z.strictObject({
  kind: z.literal("constant"),
  peak,
  warmup_steps,
});

/** Falls from the peak to the end in a straight line, until the last step. */
const linear = z.strictObject({
  kind: z.literal("linear"),
  peak,
  end: end.default(0),
  warmup_steps,
});

/** Falls from the peak to the end along half a cosine, until the last step. */
const cosine = z.strictObject({
  kind: z.literal("cosine"),
  peak,
  end: end.default(0),
  warmup_steps,
}).meta({ examples: [{ kind: "cosine", peak: 0.001, warmup_steps: 100 }] });

/** Stays at the peak; falls in a straight line over the last `decay_steps`. */
const warmupStableDecay = z.strictObject({
  kind: z.literal("warmup_stable_decay"),
  peak,
  end: end.default(0),
  warmup_steps,
  decay_steps: steps,
});

const byKind = z.discriminatedUnion("kind", [constant, linear, cosine, warmupStableDecay]);
export type Schedule = z.output<typeof byKind>;

/** A schedule, or a number: that value all the time. */
export const scheduleConfig = z.union([
  peak.transform((peak): Schedule => ({ kind: "constant", peak, warmup_steps: 0 })),
  byKind,
]);

/** What is left of the way from peak to end, 1 … 0, when `done` of the fall is over. */
const shapes = {
  constant: () => 1,
  linear: (done: number) => 1 - done,
  cosine: (done: number) => (1 + Math.cos(Math.PI * done)) / 2,
  warmup_stable_decay: (done: number) => 1 - done,
} satisfies Record<Schedule["kind"], (done: number) => number>;

/**
 * The value at `step`, counted from 0, of `horizon` steps. During the warmup of W steps it is peak · (step + 1) / (W + 1), so
 * step W is the first at the peak; the end would be reached at step `horizon`, one after the last.
 */
export function valueAt(schedule: Schedule, step: number, horizon: number): number {
  const { kind, peak, warmup_steps } = schedule;
  if (step < warmup_steps) return peak * (step + 1) / (warmup_steps + 1);
  const end = "end" in schedule ? schedule.end : peak;
  const stable = "decay_steps" in schedule ? horizon - schedule.decay_steps : 0;
  const from = Math.max(warmup_steps, stable), length = horizon - from;
  const done = length > 0 ? Math.min(1, Math.max(0, (step - from) / length)) : Number(step > from);
  return end + (peak - end) * shapes[kind](done);
}
