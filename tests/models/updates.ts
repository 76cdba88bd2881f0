/** Whole updates of a model along golden ones: loss and length of the gradient of each, and parameters where they are recorded. */

import assert from "node:assert/strict";
import {
  interpret,
  leavesOf,
  placeholder,
  sizeOf,
  spec,
  type Tensor,
} from "../../core/graph/mod.ts";
import { type Model, namedParams } from "../../core/model/mod.ts";
import { bindOptimizer, evenClock, optimizerConfig, scalarsOf } from "../../core/optim/mod.ts";
import { stepGraph } from "../core/model/steps.ts";
import type { Machine, Named, Session } from "../machines.ts";
import type { CheckCase } from "../vector_tests.ts";
import { checkClose, type VectorCase } from "../vectors.ts";

export interface Updates {
  readonly model: Model;
  readonly optimizer: unknown;
  /** Updates that schedules reckon with. */
  readonly steps: number;
  /** The case with the parameters before the first, `param/…`. */
  readonly start: VectorCase;
  /** Our parameters from the originals', by the originals' names. */
  readonly params: (originals: Readonly<Record<string, Tensor>>) => unknown;
  /** Originals whose gradient is rounding noise: how far they may be off. */
  readonly noisy?: (name: string) => number | undefined;
  /** Cases of the same updates, recorded in other ways: held to what is found, too. */
  readonly also?: readonly VectorCase[];
}

/** Values of the originals below a prefix → ours, by path, and of each how far it may be off. */
function ours({ params, noisy }: Updates, c: VectorCase, prefix: string) {
  const named = [...c.tensors].filter(([name]) => name.startsWith(prefix))
    .map(([name, tensor]) => [name.slice(prefix.length), tensor] as const);
  const places = named.map(([name, { shape }]) =>
    [name, placeholder(spec(shape), name, "state")] as const
  );
  const given = new Map(places.map(([, tensor], i) => [tensor, named[i][1].values] as const));
  const leaves = leavesOf<Tensor>(params(Object.fromEntries(places)));
  const values = interpret(leaves.map(({ leaf }) => leaf), given, { precision: "f64" });
  // the same arrangement of tolerances, each as often as its tensor has numbers
  const bounds = interpret(
    leaves.map(({ leaf }) => leaf),
    new Map(named.map(([name, { values }], i) => {
      const { suggested_atol = 0 } = c.tolerance(prefix + name);
      return [places[i][1], new Float64Array(values.length).fill(noisy?.(name) ?? suggested_atol)];
    })),
    { precision: "f64" },
  );
  return leaves.map(({ path }, i) => ({ path, values: values[i], bounds: bounds[i] }));
}

/** Rows are `step<n>/in/ids` [rows, time + 1]. On WebGPU ten times the tolerance: functions are less exact there. */
export const updates = (of: (c: VectorCase) => Updates): CheckCase => async (machine, c) => {
  const given = of(c), { model, steps, start } = given;
  const config = optimizerConfig.parse(given.optimizer), clock = evenClock(steps);
  const [rows, columns] = c.tensors.get("step0/in/ids")!.shape, length = columns - 1;
  const graph = stepGraph(model, config, { rows, length });
  const { buffers } = bindOptimizer(config, namedParams(model.params));
  const moments = Object.entries(buffers).flatMap(([buffer, byPath]) =>
    Object.entries(byPath).map((
      [path, { shape }],
    ) => [`${buffer}.${path}`, new Float32Array(sizeOf(shape))])
  );
  const first = ours(given, start, "param/").map(({ path, values }) => [`params.${path}`, values]);
  using session = await machine.start(graph, Object.fromEntries([...first, ...moments]) as Named);
  const scalarsAt = scalarsOf(config, clock);
  for (let step = 0; c.tensors.has(`step${step}/in/ids`); step++) {
    const ids = c.tensors.get(`step${step}/in/ids`)!.values, { hyper, maxNorm } = scalarsAt(step);
    const cells = Array.from(
      { length: rows * length },
      (_, i) => [Math.floor(i / length), i % length],
    );
    const at = (shift: number) => cells.map(([row, t]) => ids[row * columns + t + shift]);
    const found = await session.run({
      "rows.ids": at(0),
      "rows.targets": at(1),
      "rows.positions": cells.map(([, t]) => t),
      "rows.segment_ids": cells.map(() => 1),
      count: [rows * length],
      max_norm: [maxNorm],
      hyper,
    });
    for (const recorded of [c, ...given.also ?? []]) {
      assert.deepEqual(recorded.tensors.get(`step${step}/in/ids`)!.values, ids);
      await compare(given, recorded, step, { machine, session, found, targets: rows * length });
    }
  }
};

interface Update {
  readonly machine: Machine;
  readonly session: Session;
  readonly found: Named;
  readonly targets: number;
}

async function compare(
  given: Updates,
  c: VectorCase,
  step: number,
  { machine, session, found, targets }: Update,
): Promise<void> {
  const wider = machine.name === "webgpu" ? 10 : 1;
  const what = `${machine.name}: ${c.id}, update ${step}`;
  const check = (name: string, values: ArrayLike<number>) => {
    const { suggested_atol = 0 } = c.tolerance(name);
    const twin = machine.name === "loops, f64" ? c.tensors.get(`f64/${name}`) : undefined;
    const { values: expected } = twin ?? c.tensors.get(name)!;
    checkClose(`${what}: ${name}`, values, expected, wider * suggested_atol, wider * 1e-5);
  };
  check(`step${step}/out/loss`, [found.loss[0] / targets]);
  check(`step${step}/out/grad_norm`, found.norm);
  const recorded = [...c.tensors.keys()].some((name) => name.startsWith(`step${step}/param/`));
  if (!recorded) return;
  for (const { path, values, bounds } of ours(given, c, `step${step}/param/`)) {
    const now = await session.read(`params.${path}`);
    assert.equal(now.length, values.length, path);
    for (let i = 0; i < now.length; i++) {
      checkClose(
        `${what}: ${path}[${i}]`,
        [now[i]],
        [values[i]],
        wider * bounds[i],
        wider * 1e-5,
      );
    }
  }
}
