/**
 * Golden cases of the optimizer's kernels: several steps, with state that stays where the machine
 * keeps it.
 */

import * as k from "../../kernels/mod.ts";
import { type Graph, type Spec, spec, trace } from "../../core/graph/mod.ts";
import type { Named } from "../machines.ts";
import type { CheckCase } from "../vector_tests.ts";
import { checkClose, type Tensors } from "../vectors.ts";

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

export const optimizerCases: Readonly<Record<string, CheckCase>> = {
  adamw,
  adamw_betas_999: adamw,
  clip_grad_norm: clip,
};
