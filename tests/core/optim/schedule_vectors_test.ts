import assert from "node:assert/strict";
import { evenClock, scheduleConfig, valueAt } from "../../../core/optim/mod.ts";
import { readJson } from "../../vectors.ts";

type Rates = { step: number; lr: number }[];

const recorded = readJson<{
  neollm_lr: Rates;
  veronica_lr: Rates;
  golf_warmdown_iterations: { step: number; iterations: number; warmdown: number; mult: number }[];
  muon_momentum: { step: number; momentum: number }[];
  context_curriculum_veronica: { step: number; context: number }[];
  veronica_tau: { step: number; max_steps: number; tau: number }[];
  veronica_aux: { step: number; weight: number }[];
  polyglu_tau: { step: number; total: number; tau: number }[];
  polyglu_mix: { step: number; math_stem_code: number[] }[];
}>("schedules.json");

function check(config: unknown, horizon: number, points: readonly (readonly [number, number])[]) {
  const schedule = scheduleConfig.parse(config), clock = evenClock(horizon);
  assert.ok(points.length > 1);
  for (const [step, value] of points) {
    const found = valueAt(schedule, step, clock);
    assert.ok(Math.abs(found - value) < 1e-12, `step ${step}: ${found} is not ${value}`);
  }
}

const rates = (points: Rates) => points.map(({ step, lr }) => [step, lr] as const);

Deno.test("schedules: the learning rates of the models that we follow", () => {
  check(
    { kind: "cosine", start: 3e-4, peak: 6e-4, end: 6e-5, warmup: 5000 },
    61875,
    rates(recorded.neollm_lr),
  );
  check(
    { kind: "cosine", start: 0, peak: 1.2e-4, warmup: "10%" },
    60000,
    rates(recorded.veronica_lr),
  );
  const [{ iterations, warmdown }] = recorded.golf_warmdown_iterations;
  check(
    { kind: "warmup_stable_decay", peak: 1, decay: warmdown },
    iterations,
    recorded.golf_warmdown_iterations.map(({ step, mult }) => [step, mult]),
  );
});

Deno.test("schedules: momentum, temperature, mixture and context of the models that we follow", () => {
  const momentum = recorded.muon_momentum.map(({ step, momentum }) => [step, momentum] as const);
  check({ kind: "constant", start: 0.92, peak: 0.99, warmup: 1500 }, 5449, momentum);
  check({ kind: "points", points: [[0, 0.92], [1500, 0.99]] }, 5449, momentum);
  check(
    { kind: "points", points: [[0, 1024], [20_000, 2048]], interpolate: "hold" },
    60_000,
    recorded.context_curriculum_veronica.map(({ step, context }) => [step, context]),
  );
  const { veronica_tau, veronica_aux, polyglu_tau, polyglu_mix } = recorded;
  const [{ max_steps }] = veronica_tau, [{ total }] = polyglu_tau;
  check(
    { kind: "points", points: [[6000, 2.2], ["100%", 1.4]] },
    max_steps,
    veronica_tau.map(({ step, tau }) => [step, tau]),
  );
  check(
    { kind: "points", points: [[0, 0.008], ["100%", 0.016]] },
    max_steps,
    veronica_aux.map(({ step, weight }) => [step, weight]),
  );
  check(
    { kind: "points", points: [[0, 1], ["100%", 0.1]] },
    total,
    polyglu_tau.map(({ step, tau }) => [step, tau]),
  );
  check(
    { kind: "points", points: [["80%", 0.7], ["100%", 0.85]] },
    total,
    polyglu_mix.map(({ step, math_stem_code: [math] }) => [step, math]),
  );
});
