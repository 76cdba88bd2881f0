/**
 * Schedules: a scalar as a function of the step, for the learning rate and whatever else changes over a run. Phases of
 * no length are legal.
 */

import { z } from "zod";
import { type Clock, parseSpan, type Span, spanConfig } from "./span.ts";

const warmup = spanConfig.default(0);

/**
 * A schedule of values that `value` allows, or a number: that value all the time. `peak` is stricter where a scalar that
 * never leaves the edge of `value` makes no sense.
 */
export function scheduleOf(value: z.ZodNumber, peak = value) {
  // where 0 is no value of the scalar there is no default for the end
  const end = value.safeParse(0).success ? value.default(0) : value;
  /** How all but `points` begin: at `start`, or near 0, and up (or down) to the peak over the warmup. */
  const rise = { peak, start: value.optional(), warmup };
  return z.union([
    peak,
    z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("constant"), ...rise }),
      /** Falls from the peak to the end in a straight line, until the last step. */
      z.strictObject({ kind: z.literal("linear"), ...rise, end }),
      /** Falls from the peak to the end along half a cosine, until the last step. */
      z.strictObject({ kind: z.literal("cosine"), ...rise, end })
        .meta({ examples: [{ kind: "cosine", peak: 0.001, warmup: 100 }] }),
      /** Stays at the peak; falls in a straight line over the last `decay`. */
      z.strictObject({ kind: z.literal("warmup_stable_decay"), ...rise, end, decay: spanConfig }),
      /** Values at moments of the run, and the way between them. Before the first and after the last they stay. */
      z.strictObject({
        kind: z.literal("points"),
        points: z.array(z.tuple([spanConfig, value])).min(1),
        interpolate: z.enum(["linear", "hold"]).default("linear"),
      }).meta({ examples: [{ kind: "points", points: [[6000, 2.2], ["100%", 1.4]] }] }),
    ]),
  ]);
}

// An id is the name in the JSON schema, where each is said once.

/** A learning rate: a peak of 0 would train nothing. */
export const rateConfig = scheduleOf(z.number().nonnegative(), z.number().positive())
  .meta({ id: "rate_schedule" });

/** A schedule of values that are at least 0. */
export const nonnegativeSchedule = scheduleOf(z.number().nonnegative()).meta({ id: "schedule" });

/** A schedule of parts of a whole, from 0 to 1. */
export const partSchedule = scheduleOf(z.number().min(0).max(1)).meta({ id: "part_schedule" });

/** A schedule whose values may be anything. */
export const scheduleConfig = scheduleOf(z.number());
export type Schedule = z.output<typeof scheduleConfig>;
type Form = Exclude<Schedule, number>;
type Rise = Exclude<Form, { kind: "points" }>;

/** A scalar by the step, counted from 0. */
export type Curve = (step: number) => number;

/** What is left of the way from peak to end, 1 … 0, when `done` of the fall is over. */
const shapes: Readonly<Record<Rise["kind"], (done: number) => number>> = {
  constant: () => 1,
  linear: (done) => 1 - done,
  cosine: (done) => (1 + Math.cos(Math.PI * done)) / 2,
  warmup_stable_decay: (done) => 1 - done,
};

/**
 * During the warmup of W steps the value is peak · (step + 1) / (W + 1), never 0; with a start it is
 * start + (peak − start) · step / W. Either way step W is the first at the peak. The end would be reached at
 * step `clock.steps`, one after the last.
 */
export function curveOf(schedule: Schedule, clock: Clock): Curve {
  if (typeof schedule === "number") return () => schedule;
  return schedule.kind === "points" ? throughPoints(schedule, clock) : riseAndFall(schedule, clock);
}

/** The value at one step. */
export function valueAt(schedule: Schedule, step: number, clock: Clock): number {
  return curveOf(schedule, clock)(step);
}

function riseAndFall(schedule: Rise, clock: Clock): Curve {
  const { kind, peak, start } = schedule, warmup = clock.stepsOf(schedule.warmup);
  const end = "end" in schedule ? schedule.end : peak;
  const stable = "decay" in schedule ? clock.steps - clock.stepsOf(schedule.decay) : 0;
  const from = Math.max(warmup, stable), length = clock.steps - from, shape = shapes[kind];
  return (step) => {
    if (step < warmup) {
      return start === undefined
        ? peak * (step + 1) / (warmup + 1)
        : start + (peak - start) * (step / warmup);
    }
    const done = length > 0 ? Math.min(1, Math.max(0, (step - from) / length)) : +(step > from);
    return end + (peak - end) * shape(done);
  };
}

function throughPoints({ points, interpolate }: Extract<Form, { kind: "points" }>, clock: Clock) {
  const places = points.map(([span, value]) => ({ at: clock.stepsOf(span), value }));
  return (step: number): number => {
    const before = places.findLast(({ at }) => at <= step) ?? places[0];
    const after = places.find(({ at }) => at > step);
    if (after === undefined || after === places[0] || interpolate === "hold") return before.value;
    const done = (step - before.at) / (after.at - before.at);
    return before.value + (after.value - before.value) * done;
  };
}

/** Steps at which the form of a schedule changes: between two of them it rises, falls or stays. */
export function knotsOf(schedule: Schedule, clock: Clock): number[] {
  if (typeof schedule === "number") return [];
  if (schedule.kind === "points") return schedule.points.map(([span]) => clock.stepsOf(span));
  const decay = "decay" in schedule ? [clock.steps - clock.stepsOf(schedule.decay)] : [];
  return [clock.stepsOf(schedule.warmup), ...decay];
}

/** The spans in a schedule, each with its place there. */
export function spansOf(schedule: Schedule): { path: (string | number)[]; span: Span }[] {
  if (typeof schedule === "number") return [];
  if (schedule.kind === "points") {
    return schedule.points.map(([span], i) => ({ path: ["points", i, 0], span }));
  }
  const { warmup } = schedule, decay = "decay" in schedule ? schedule.decay : undefined;
  return [
    { path: ["warmup"], span: warmup },
    ...(decay === undefined ? [] : [{ path: ["decay"], span: decay }]),
  ];
}

/** Whether a schedule depends on how long the run is. */
export function needsLength(schedule: Schedule): boolean {
  if (typeof schedule === "number") return false;
  return ["linear", "cosine", "warmup_stable_decay"].includes(schedule.kind) ||
    spansOf(schedule).some(({ span }) => parseSpan(span).unit === "part");
}

/** The first of a schedule's points that comes before the one before it. */
export function misplacedPoint(schedule: Schedule, clock: Clock): number | undefined {
  if (typeof schedule === "number" || schedule.kind !== "points") return undefined;
  const places = schedule.points.map(([span]) => clock.stepsOf(span));
  const found = places.findIndex((at, i) => i > 0 && at < places[i - 1]);
  return found < 0 ? undefined : found;
}
