import assert from "node:assert/strict";
import { type Schedule, scheduleConfig, valueAt } from "../../../core/optim/mod.ts";

const kinds = ["constant", "linear", "cosine", "warmup_stable_decay"] as const;

function schedule(kind: Schedule["kind"], warmup_steps: number, decay_steps = 0): Schedule {
  return scheduleConfig.parse({
    kind,
    peak: 2,
    warmup_steps,
    ...(kind === "constant" ? {} : { end: 0 }),
    ...(kind === "warmup_stable_decay" ? { decay_steps } : {}),
  });
}

Deno.test("schedules: a rise to the peak, then each its own way to the end", () => {
  const at = (s: Schedule, ...steps: number[]) => steps.map((step) => valueAt(s, step, 12));
  assert.deepEqual(at(schedule("constant", 1), 0, 1, 11), [1, 2, 2]);
  assert.deepEqual(at(schedule("linear", 2), 0, 1, 2, 7, 12), [2 / 3, 4 / 3, 2, 1, 0]);
  const cosine = at(schedule("cosine", 2), 2, 7, 12);
  [2, 1, 0].forEach((value, i) => assert.ok(Math.abs(cosine[i] - value) < 1e-12));
  assert.deepEqual(at(schedule("warmup_stable_decay", 2, 4), 2, 8, 10, 12), [2, 2, 1, 0]);
});

// karpathy/nanoGPT PR 578: rate 0 at the first step; torchtune 2010, torchtitan PR 1010: division
// by zero.
Deno.test("replay: nanoGPT 578, torchtune 2010: phases of no length, a warmup beyond the end, one step", () => {
  for (const kind of kinds) {
    for (const warmup of [0, 1, 5, 100]) {
      for (const decay of [0, 1, 5, 100]) {
        for (const horizon of [1, 2, 5]) {
          const s = schedule(kind, warmup, decay);
          const values = Array.from(
            { length: horizon + 2 },
            (_, step) => valueAt(s, step, horizon),
          );
          const name = `${kind}, warmup ${warmup}, decay ${decay}, ${horizon} steps: ${values}`;
          assert.ok(values.every((value) => value >= 0 && value <= 2), name);
          assert.ok(values[0] > 0, name);
        }
      }
    }
  }
});

Deno.test("schedules: a number is that value all the time", () => {
  assert.deepEqual(scheduleConfig.parse(0.5), { kind: "constant", peak: 0.5, warmup_steps: 0 });
});

Deno.test("schedules: a peak of 0 is refused, as it would train nothing", () => {
  assert.throws(() => scheduleConfig.parse({ kind: "cosine", peak: 0 }));
  assert.throws(() => scheduleConfig.parse(0));
});
