import assert from "node:assert/strict";
import { z } from "zod";
import {
  type Clock,
  evenClock,
  needsLength,
  type Schedule,
  scheduleConfig,
  scheduleOf,
  valueAt,
} from "../../../core/optim/mod.ts";

const kinds = ["constant", "linear", "cosine", "warmup_stable_decay"] as const;

function schedule(kind: typeof kinds[number], warmup: number, decay = 0): Schedule {
  return scheduleConfig.parse({
    kind,
    peak: 2,
    warmup,
    ...(kind === "constant" ? {} : { end: 0 }),
    ...(kind === "warmup_stable_decay" ? { decay } : {}),
  });
}

const values = (s: unknown, clock: Clock, ...steps: number[]) =>
  steps.map((step) => valueAt(scheduleConfig.parse(s), step, clock));

Deno.test("schedules: a rise to the peak, then each its own way to the end", () => {
  const at = (s: Schedule, ...steps: number[]) => values(s, evenClock(12), ...steps);
  assert.deepEqual(at(schedule("constant", 1), 0, 1, 11), [1, 2, 2]);
  assert.deepEqual(at(schedule("linear", 2), 0, 1, 2, 7, 12), [2 / 3, 4 / 3, 2, 1, 0]);
  const cosine = at(schedule("cosine", 2), 2, 7, 12);
  [2, 1, 0].forEach((value, i) => assert.ok(Math.abs(cosine[i] - value) < 1e-12));
  assert.deepEqual(at(schedule("warmup_stable_decay", 2, 4), 2, 8, 10, 12), [2, 2, 1, 0]);
});

Deno.test("schedules: spans of steps, tokens and parts of the run say the same", () => {
  const clock = evenClock(1000, 4096);
  for (const warmup of [100, "100 steps", "0.1k steps", "409.6k tokens", "10%"]) {
    const s = { kind: "warmup_stable_decay", peak: 2, warmup, decay: "50%" };
    assert.deepEqual(values(s, clock, 0, 100, 500, 750, 1000), [2 / 101, 2, 2, 1, 0]);
  }
});

Deno.test("schedules: with a start the warmup begins there, upwards or downwards", () => {
  const clock = evenClock(12);
  const up = { kind: "constant", peak: 2, start: 1, warmup: 4 };
  assert.deepEqual(values(up, clock, 0, 1, 2, 4, 11), [1, 1.25, 1.5, 2, 2]);
  const down = { kind: "linear", peak: -1, start: 0, warmup: 2, end: 1 };
  assert.deepEqual(values(down, clock, 0, 1, 2, 7, 12), [0, -0.5, -1, 0, 1]);
});

Deno.test("schedules: points are met, held outside, and joined by lines or not at all", () => {
  const clock = evenClock(20), points = [[4, 1], ["50%", -1], ["50%", 3], [20, 0]];
  const linear = { kind: "points", points }, hold = { ...linear, interpolate: "hold" };
  assert.deepEqual(values(linear, clock, 0, 4, 7, 9, 10, 15, 20, 30), [
    ...[1, 1, 0, 1 - 2 * 5 / 6],
    ...[3, 1.5, 0, 0],
  ]);
  assert.deepEqual(values(hold, clock, 0, 4, 9, 10, 19, 20, 30), [1, 1, 1, 3, 3, 0, 0]);
});

// karpathy/nanoGPT PR 578: rate 0 at the first step; torchtune 2010, torchtitan PR 1010: division
// by zero.
Deno.test("replay: nanoGPT 578, torchtune 2010: phases of no length, a warmup beyond the end, one step", () => {
  for (const kind of kinds) {
    for (const warmup of [0, 1, 5, 100]) {
      for (const decay of [0, 1, 5, 100]) {
        for (const horizon of [1, 2, 5]) {
          const s = schedule(kind, warmup, decay), clock = evenClock(horizon);
          const found = Array.from({ length: horizon + 2 }, (_, step) => valueAt(s, step, clock));
          const name = `${kind}, warmup ${warmup}, decay ${decay}, ${horizon} steps: ${found}`;
          assert.ok(found.every((value) => value >= 0 && value <= 2), name);
          assert.ok(found[0] > 0, name);
        }
      }
    }
  }
});

Deno.test("schedules: a number is that value all the time", () => {
  assert.equal(scheduleConfig.parse(0.5), 0.5);
  assert.equal(valueAt(0.5, 7, evenClock(3)), 0.5);
});

Deno.test("schedules: values are those that the scalar allows, 0 and negative ones where it does", () => {
  const rate = scheduleOf(z.number().nonnegative(), z.number().positive());
  const temperature = scheduleOf(z.number().positive());
  const refused = (schema: z.ZodType, s: unknown) => assert.ok(!schema.safeParse(s).success);
  refused(rate, { kind: "cosine", peak: 0 }); // it would train nothing
  refused(rate, 0);
  refused(rate, { kind: "points", points: [[0, -1]] });
  rate.parse({ kind: "cosine", peak: 1, start: 0 });
  refused(temperature, { kind: "linear", peak: 1, end: 0 });
  refused(temperature, { kind: "linear", peak: 1 }); // its end cannot be 0, so it must be said
  temperature.parse({ kind: "linear", peak: 1, end: 0.1 });
  scheduleConfig.parse({ kind: "linear", peak: -1, end: -2, start: 0 });
  refused(scheduleConfig, { kind: "points", points: [] });
});

Deno.test("schedules: which need to know how long the run is", () => {
  const needs = (s: unknown) => needsLength(scheduleConfig.parse(s));
  assert.ok(needs({ kind: "cosine", peak: 1 }));
  assert.ok(needs({ kind: "constant", peak: 1, warmup: "1%" }));
  assert.ok(needs({ kind: "points", points: [[0, 1], ["100%", 2]] }));
  assert.ok(!needs({ kind: "constant", peak: 1, warmup: "1k tokens" }));
  assert.ok(!needs({ kind: "points", points: [[0, 1], ["5 steps", 2]] }));
  assert.ok(!needs(1));
  const endless = { ...evenClock(Infinity), steps: Infinity };
  const s = { kind: "constant", peak: 2, warmup: 1 };
  assert.deepEqual(values(s, endless, 0, 1, 1e6), [1, 2, 2]);
});
