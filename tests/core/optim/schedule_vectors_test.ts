import assert from "node:assert/strict";
import { scheduleConfig, valueAt } from "../../../core/optim/mod.ts";
import { readJson } from "../../vectors.ts";

Deno.test("schedules: falls are those of the models that we follow; how ours rise is our own choice", () => {
  const recorded = readJson<{
    neollm_lr: { step: number; lr: number }[];
    veronica_lr: { step: number; lr: number }[];
    golf_warmdown_iterations: {
      step: number;
      iterations: number;
      warmdown: number;
      mult: number;
    }[];
  }>("schedules.json");
  const check = (config: unknown, horizon: number, points: { step: number; lr: number }[]) => {
    const schedule = scheduleConfig.parse(config);
    const falls = points.filter(({ step }) => step >= schedule.warmup_steps);
    assert.ok(falls.length > 1);
    for (const { step, lr } of falls) {
      const found = valueAt(schedule, step, horizon);
      assert.ok(Math.abs(found - lr) < 1e-12, `step ${step}: ${found} is not ${lr}`);
    }
  };
  check(
    { kind: "cosine", peak: 6e-4, end: 6e-5, warmup_steps: 5000 },
    61875,
    recorded.neollm_lr,
  );
  check({ kind: "cosine", peak: 1.2e-4, warmup_steps: 6000 }, 60000, recorded.veronica_lr);
  const [{ iterations, warmdown }] = recorded.golf_warmdown_iterations;
  check(
    { kind: "warmup_stable_decay", peak: 1, decay_steps: warmdown },
    iterations,
    recorded.golf_warmdown_iterations.map(({ step, mult }) => ({ step, lr: mult })),
  );
});
