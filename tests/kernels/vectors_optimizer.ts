/**
 * Golden cases of the optimizer's kernels: several steps, with state that stays where the machine
 * keeps it.
 */

import * as k from "../../kernels/mod.ts";
import { type Graph, sizeOf, type Spec, spec, type Tensor, trace } from "../../core/graph/mod.ts";
import {
  bindOptimizer,
  evenClock,
  newtonSchulz,
  optimizerConfig,
  scalarsOf,
  scheduleConfig,
  slowAverage,
  valueAt,
} from "../../core/optim/mod.ts";
import type { Named } from "../machines.ts";
import type { CheckCase } from "../vector_tests.ts";
import { checkClose, type Tensors, type VectorCase } from "../vectors.ts";

/** One AdamW update of named parameters: state `p.*`, `m.*`, `v.*`; uploads `g.*` and `hyper`. */
export function adamWGraph(
  shapes: Readonly<Record<string, readonly number[]>>,
  eps: number,
): Graph {
  const specs = (prefix: string) =>
    Object.entries(shapes).map(([name, shape]): [string, Spec] => [
      `${prefix}.${name}`,
      { shape, dtype: "f32" },
    ]);
  return trace((state: Tensors, batch: Tensors) => {
    const open = k.constant("open", [2], Float32Array.of(1, 1));
    const next = Object.keys(shapes).flatMap((name, decay) => {
      const { param, m, v } = k.adamW(
        state[`p.${name}`],
        batch[`g.${name}`],
        state[`m.${name}`],
        state[`v.${name}`],
        batch.hyper,
        open,
        { eps, decay },
      );
      return [[`p.${name}`, param], [`m.${name}`, m], [`v.${name}`, v]];
    });
    return { state: Object.fromEntries(next) };
  }, {
    state: Object.fromEntries(["p", "m", "v"].flatMap(specs)),
    batch: {
      ...Object.fromEntries(specs("g")),
      hyper: spec([k.hyperSize(Object.keys(shapes).length)]),
    },
  }) as Graph;
}

/** `hyper` of update `step`, from 0, with betas that stay; a decay for each of the graph's parameters. */
export function constantHyper(
  { beta1, beta2, ...rest }: Pick<k.AdamWScalars, "learning_rate" | "beta1" | "beta2" | "decays">,
  step: number,
): Float64Array {
  const corrections = [1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)] as const;
  return k.packHyper({ beta1, beta2, corrections, ...rest });
}

/** Moments that are all 0, for parameters of these sizes. */
export function noMoments(params: Named): Named {
  return Object.fromEntries(
    Object.entries(params).flatMap(([name, { length }]) =>
      ["m", "v"].map((moment) => [`${moment}.${name}`, new Float32Array(length)])
    ),
  );
}

const prefixed = (prefix: string, values: Named): Named =>
  Object.fromEntries(Object.entries(values).map(([name, x]) => [`${prefix}.${name}`, x]));

const adamw: CheckCase = async (machine, c) => {
  const names = ["w", "b", "s"], [beta1, beta2] = c.config.betas as number[];
  const { weight_decay, eps, lr_per_step } = c.config as {
    weight_decay: number | Record<string, number>;
    eps: number;
    lr_per_step: number[];
  };
  const named = (prefix: string) =>
    Object.fromEntries(names.map((name) => [name, c.tensors.get(`${prefix}${name}`)!.values]));
  const graph = adamWGraph(
    Object.fromEntries(names.map((name) => [name, c.tensors.get(`in/param/${name}`)!.shape])),
    eps,
  );
  const decays = names.map((name) =>
    typeof weight_decay === "number" ? weight_decay : weight_decay[name]
  );
  const params = named("in/param/");
  using session = await machine.start(graph, { ...prefixed("p", params), ...noMoments(params) });
  for (const [step, learning_rate] of lr_per_step.entries()) {
    await session.run({
      ...prefixed("g", named(`step${step}/in/grad/`)),
      hyper: constantHyper({ learning_rate, beta1, beta2, decays }, step),
    });
    for (const name of names) {
      const key = `step${step}/param/${name}`, what = `${machine.name}: ${c.id}, ${key}`;
      const found = await session.read(`p.${name}`);
      if (machine.name === "loops, f64") {
        checkClose(what, found, c.tensors.get(`f64/${key}`)!.values, 1e-12, 1e-12);
      } else {
        const { suggested_atol } = c.tolerance(key);
        checkClose(what, found, c.tensors.get(key)!.values, suggested_atol!, 1e-5);
      }
    }
  }
};

const clip: CheckCase = async (machine, c) => {
  const names = ["a", "b", "c"], limits = ["0.3", "1", "100"];
  const specs = names.map((name): [string, Spec] => [
    name,
    { shape: c.tensors.get(`in/${name}`)!.shape, dtype: "f32" },
  ]);
  const graph = trace((_: Tensors, batch: Tensors) => {
    const outputs = limits.flatMap((limit) => {
      const grads = names.map((name) => batch[name]);
      const { norm, gate } = k.globalNorm(grads, k.fill([], 1), k.fill([], Number(limit)));
      const scale = k.reshape(k.slice(gate, 0, 0, 1), []);
      const clipped = grads.map((g, i) => [`out/${names[i]}.${limit}`, k.mul(g, scale)] as const);
      return [[`out/norm.${limit}`, norm] as const, ...clipped];
    });
    return { outputs: Object.fromEntries(outputs) };
  }, { state: {}, batch: Object.fromEntries(specs) }) as Graph;
  using session = await machine.start(graph);
  const found = await session.run(
    Object.fromEntries(names.map((name) => [name, c.tensors.get(`in/${name}`)!.values])),
  );
  for (const [name, values] of Object.entries(found)) {
    const what = `${machine.name}: ${c.id}, ${name}`;
    if (machine.name === "loops, f64") {
      checkClose(what, values, c.tensors.get(`f64/${name}`)!.values, 1e-12, 1e-12);
    } else {
      checkClose(
        what,
        values,
        c.tensors.get(name)!.values,
        c.tolerance(name).suggested_atol!,
        1e-5,
      );
    }
  }
};

/** Several updates by an optimizer of `core/optim`, of parameters that all are matrices to it. */
const updates = (
  configOf: (c: VectorCase) => unknown,
  exactness: number,
): CheckCase =>
async (machine, c) => {
  const rates = c.config.lr_per_step as number[], clock = evenClock(rates.length);
  const config = optimizerConfig.parse({
    ...configOf(c) as Record<string, unknown>,
    // a value for each update, to be found as it is written
    learning_rate: {
      kind: "points",
      points: rates.map((rate, step) => [step, rate]),
      interpolate: "hold",
    },
    weight_decay: c.config.weight_decay,
  });
  const names = [...c.tensors.keys()].flatMap((name) => name.match(/^in\/param\/(.+)$/)?.[1] ?? []);
  const params = names.map((path) => ({
    path,
    shape: c.tensors.get(`in/param/${path}`)!.shape,
    role: "matrix" as const,
  }));
  const optimizer = bindOptimizer(config, params), scalarsAt = scalarsOf(config, clock);
  const specs = Object.fromEntries(params.map(({ path, shape }) => [path, spec(shape)]));
  const graph = trace((state, batch: Record<string, unknown>) => {
    const { params: p, ...buffers } = state as unknown as Record<string, Tensors>;
    const next = optimizer.update({
      params: p,
      grads: batch.grads as Tensors,
      buffers,
      hyper: batch.hyper as Tensor,
      gate: k.constant("open", [2], Float32Array.of(1, 1)),
    });
    return { state: { params: next.params, ...next.buffers } };
  }, {
    state: { params: specs, ...optimizer.buffers },
    batch: { grads: specs, hyper: optimizer.hyper },
  } as never) as Graph;
  const valuesOf = (prefix: string) =>
    Object.fromEntries(names.map((name) => [name, c.tensors.get(prefix + name)!.values]));
  const empty = Object.entries(optimizer.buffers).flatMap(([buffer, of]) =>
    Object.entries(of).map(([path, { shape }]) =>
      [`${buffer}.${path}`, new Float32Array(sizeOf(shape))] as const
    )
  );
  using session = await machine.start(graph, {
    ...prefixed("params", valuesOf("in/param/")),
    ...Object.fromEntries(empty),
  });
  for (const step of rates.keys()) {
    await session.run({
      ...prefixed("grads", valuesOf(`step${step}/in/grad/`)),
      hyper: scalarsAt(step).hyper,
    });
    for (const name of names) {
      const key = `step${step}/param/${name}`, found = await session.read(`params.${name}`);
      const twin = c.tensors.get(`f64/${key}`)?.values, what = `${machine.name}: ${c.id}, ${key}`;
      if (machine.name === "loops, f64" && twin) {
        checkClose(what, found, twin, exactness, exactness);
      } else {
        checkClose(
          what,
          found,
          c.tensors.get(key)!.values,
          c.tolerance(key).suggested_atol!,
          1e-5,
        );
      }
    }
  }
};

const ademamix = updates(({ config: { betas, alpha, alpha_warmup, beta3_warmup, eps } }) => {
  const [beta1, beta2, beta3] = betas as number[];
  return {
    kind: "ademamix",
    beta1,
    beta2,
    beta3,
    alpha,
    alpha_warmup: alpha_warmup ?? 0,
    beta3_warmup: beta3_warmup ?? 0,
    eps,
  };
}, 1e-12);
const muon = updates(({ config: { momentum, nesterov, ns_steps } }) => ({
  kind: "muon",
  momentum,
  nesterov,
  ns_steps,
}), 1e-7); // recorded with gradients of (1 − momentum) times the size, beside which the 1e-7 of its norm is larger

const orthogonalized: CheckCase = async (machine, c) => {
  const outs = [...c.tensors.keys()].flatMap((name) => {
    const [, of, type, steps] = name.match(/^out\/(\w+)\.(f32|bf16)\.(\d)$/) ?? [];
    return of ? [{ name, of, type, steps: Number(steps) }] : [];
  });
  const inputs = [...new Set(outs.map(({ of }) => of))];
  const graph = trace((_: Tensors, batch: Tensors) => ({
    outputs: Object.fromEntries(
      outs.map(({ name, of, steps }) => [name, newtonSchulz(batch[of], steps)]),
    ),
  }), {
    state: {},
    batch: Object.fromEntries(
      inputs.map((name) => [name, spec(c.tensors.get(`in/${name}`)!.shape)]),
    ),
  }) as Graph;
  using session = await machine.start(graph);
  const found = await session.run(
    Object.fromEntries(inputs.map((name) => [name, c.tensors.get(`in/${name}`)!.values])),
  );
  for (const { name } of outs) {
    const what = `${machine.name}: ${c.id}, ${name}`, twin = c.tensors.get(`f64/${name}`)?.values;
    if (machine.name === "loops, f64" && twin) {
      checkClose(what, found[name], twin, 1e-12, 1e-12);
    } else {
      const { suggested_atol } = c.tolerance(name);
      checkClose(what, found[name], c.tensors.get(name)!.values, suggested_atol!, 1e-5);
    }
  }
};

/** What changes over a run is the host's: no machine takes part in it. */
const hostOnly = (check: (c: VectorCase) => void): CheckCase => (machine, c) => {
  if (machine.name === "loops, f64") check(c);
  return Promise.resolve();
};

const slowAverages = hostOnly(({ config, tensors }) => {
  const { alpha, beta1, beta3, warmups } = config as Record<string, number> & { warmups: number[] };
  const times = tensors.get("sched/t")!.values;
  for (const warmup of warmups) {
    const at = slowAverage(
      { alpha, beta1, beta3, alpha_warmup: warmup, beta3_warmup: warmup },
      evenClock(1e6),
    );
    for (const name of ["alpha", "beta3"] as const) {
      const found = Array.from(times, (t) => at(t)[name]);
      const expected = tensors.get(`sched/${name}.${warmup}`)!.values;
      checkClose(`${name}, warmup ${warmup}`, found, expected, 1e-12, 1e-12);
    }
  }
});

const rates = hostOnly(({ config, tensors }) => {
  const { warmup, total, min_ratio } = config as Record<string, number>;
  const shapes: Record<string, unknown> = {
    cosine: { kind: "cosine", peak: 1, start: 0, warmup },
    cosine_min: { kind: "cosine", peak: 1, start: 0, end: min_ratio, warmup },
    linear: { kind: "linear", peak: 1, start: 0, warmup },
    warmdown: { kind: "warmup_stable_decay", peak: 1, decay: warmup },
  };
  for (const [name, config] of Object.entries(shapes)) {
    const schedule = scheduleConfig.parse(config);
    const found = Array.from(
      tensors.get("sched/step")!.values,
      (step) => valueAt(schedule, step, evenClock(total)),
    );
    checkClose(name, found, tensors.get(`sched/${name}`)!.values, 1e-12, 0);
  }
});

export const optimizerCases: Readonly<Record<string, CheckCase>> = {
  adamw,
  adamw_betas_999: adamw,
  clip_grad_norm: clip,
  ademamix,
  ademamix_warm: ademamix,
  ademamix_schedules: slowAverages,
  muon_f32: muon,
  muon_bf16: muon,
  newton_schulz: orthogonalized,
  lr_schedules: rates,
};
