/** Quantisation-aware training: from a moment on the loss sees weights as they are once they are levels. */

import { z } from "zod";
import {
  abs,
  add,
  div,
  element,
  maximum,
  maxLast,
  mul,
  roundEvenOf,
  sub,
} from "../../kernels/mod.ts";
import { leavesOf, mapTree, ShapeError, stopGradient, type Tensor } from "../graph/mod.ts";
import type { ParamDescription, TensorTree } from "../nn/mod.ts";
import { pathPattern, takesPath } from "../optim/paths.ts";
import type { Schedule } from "../optim/schedule.ts";
import { spanConfig } from "../optim/span.ts";
import type { Model, ModelTree } from "./model.ts";

export const qatConfig = z.strictObject({
  /** Of a level: as `quern export --to artifact` will store it. */
  bits: z.union([z.literal(5), z.literal(6), z.literal(8)]),
  /** When it begins. */
  from: spanConfig.default("85%"),
  /** Matrices whose path one of these fits, `*` standing for any text. */
  params: z.array(pathPattern).min(1).default(["layers.*"]),
  /**
   * The least step between levels: `reference` is 1/15 (31, 127), as the challenge's artifact has it; `tiny` is next to
   * none.
   */
  floor: z.enum(["tiny", "reference"]).default("tiny"),
});
export type QatConfig = z.output<typeof qatConfig>;

/** The least scale of a row of levels up to `range`: `tiny` is the smallest that f16 has, 1 / range the published one. */
export function leastScale(floor: QatConfig["floor"], range: number): number {
  return floor === "reference" ? 1 / range : 2 ** -24;
}

/**
 * The matrix [rows, columns] as levels say it, each row with a scale of its own from its largest weight; its gradient goes
 * through as if it were not rounded (Bengio et al. 2013). `isOn` [] f32: 1 or, before it begins, 0.
 */
export function roundedToLevels(
  weight: Tensor,
  { bits, floor }: Pick<QatConfig, "bits" | "floor">,
  isOn: Tensor | number = 1,
): Tensor {
  const range = 2 ** (bits - 1) - 1;
  const scale = maximum(div(maxLast(abs(weight)), range), leastScale(floor, range));
  const rounded = mul(roundEvenOf(div(weight, scale)), scale);
  return add(weight, mul(isOn, stopGradient(sub(rounded, weight))));
}

/** The model as it is trained: `loss` with the option `qat` sees rounded weights. Other uses see them as they are. */
export function withQat(model: Model, config: QatConfig | undefined): Model {
  if (!config) return model;
  const on = model.scalars.length, readers = qatParams(model, config);
  return {
    ...model,
    scalars: [...model.scalars, { name: "qat", schedule: beginsAt(config.from), readers }],
    loss(params, rows, options = {}) {
      if (!options.qat) return model.loss(params, rows, options);
      if (!rows.scalars) throw new ShapeError("rows must say whether weights are rounded");
      const isOn = element(rows.scalars, on), rounds = new Set(readers);
      const seen = mapTree(
        params,
        (weight: Tensor, path) => rounds.has(path) ? roundedToLevels(weight, config, isOn) : weight,
      );
      return model.loss(seen as ModelTree<TensorTree>, rows, options);
    },
  };
}

/** Paths of the matrices that are rounded. */
export function qatParams({ params }: Pick<Model, "params">, config: QatConfig): string[] {
  return leavesOf<ParamDescription>(params).flatMap(({ path, leaf: { role, shape } }) =>
    role === "matrix" && shape.length === 2 && takesPath(config.params, path) ? [path] : []
  );
}

/** 0, and 1 from a moment on. */
function beginsAt(from: QatConfig["from"]): Schedule {
  if (from === 0 || from === "0%") return 1;
  return { kind: "points", points: [[0, 0], [from, 1]], interpolate: "hold" };
}
