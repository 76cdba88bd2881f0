/** How weights are kept on the device while a model generates. */

import { packLevels, widenLevels, wordsOf } from "../../kernels/mod.ts";
import type { StateStore } from "../device/types.ts";
import { bytesOf, leavesOf, mapTree, type Spec, spec, type Tensor } from "../graph/mod.ts";
import type { Tensors } from "../io/tensors.ts";
import { type Model, type ModelTree, namedParams } from "../model/mod.ts";
import type { ParamDescription, TensorTree } from "../nn/mod.ts";
import { type LevelBits, type Levels, toLevels } from "../quant/levels.ts";
import { fillEntry, requireTensors } from "../train/trainer.ts";

export const weightTypes = ["f32", "bf16", "int8", "int6", "int5"] as const;

/**
 * Storage of matrices and tables. `int8` and below keep levels and a scale a row, which decoding multiplies as they are.
 * Gains, biases and routers stay f32: they are few and sensitive.
 */
export type WeightType = typeof weightTypes[number];

const bitsOf: Partial<Record<WeightType, LevelBits>> = { int8: 8, int6: 6, int5: 5 };

/** A matrix with a shorter side than this stays f32 beside levels: it has few numbers, and each counts. */
const narrow = 16;

/** The levels that a parameter is kept as; undefined where it is kept as numbers. */
function levelAttrs({ role, shape }: ParamDescription, weights: WeightType) {
  const bits = bitsOf[weights], isWide = shape.length === 2 && Math.min(...shape) >= narrow;
  if (!bits || !isWide || !isStored(role)) return undefined;
  return { bits, columns: shape[1] };
}

const isStored = (role: string) => role === "matrix" || role === "embedding";

/** What the device holds of each parameter: a tensor, or words and scales. */
export function storedSpecs(model: Model, weights: WeightType): unknown {
  return mapTree(model.params, (param: ParamDescription) => {
    const { shape, dtype, role } = param, attrs = levelAttrs(param, weights);
    if (attrs) return { words: spec([shape[0], wordsOf(attrs)], "i32"), scales: spec([shape[0]]) };
    return { shape, dtype: isStored(role) && weights === "bf16" ? "bf16" : dtype };
  });
}

/** The parameters that `storedSpecs` are, as the model takes them. */
export function storedParams(
  model: Model,
  stored: unknown,
  weights: WeightType,
): ModelTree<TensorTree> {
  const found = new Map(leavesOf<Tensor>(stored).map(({ path, leaf }) => [path, leaf]));
  return mapTree(model.params, (param: ParamDescription, path) => {
    const attrs = levelAttrs(param, weights);
    if (!attrs) return found.get(path)!;
    return widenLevels(found.get(`${path}.words`)!, found.get(`${path}.scales`)!, attrs);
  }) as ModelTree<TensorTree>;
}

/** Copies a file's tensors into the state; both must have the same ones. */
export function fillStored(
  state: StateStore,
  file: Tensors & Partial<WithLevels>,
  model: Model,
  weights: WeightType,
): void {
  const params = namedParams(model.params);
  requireTensors(file, params.map(({ path, shape }) => ({ name: path, shape })));
  for (const param of params) {
    const { path } = param, attrs = levelAttrs(param, weights), to = `params.${path}`;
    if (!attrs) {
      fillEntry(state, to, file, path);
      continue;
    }
    const { levels, scales } = levelsOf(file, path, attrs);
    state.write(`${to}.words`, packLevels(levels, attrs));
    state.write(`${to}.scales`, scales);
  }
}

/** A file whose matrices are levels already. */
export interface WithLevels {
  /** Those of a tensor, if it is kept so. */
  levels(name: string): Levels | undefined;
}

function levelsOf(
  file: Tensors & Partial<WithLevels>,
  name: string,
  { bits, columns }: { readonly bits: LevelBits; readonly columns: number },
): Levels {
  const own = file.levels?.(name);
  if (own?.bits === bits) return own;
  return toLevels(file.read(name) as Float32Array, columns, bits, { search: "row", floor: "tiny" });
}

/** Bytes of the weights as they are stored. */
export function storedBytes(model: Model, weights: WeightType): number {
  return leavesOf<Spec>(storedSpecs(model, weights)).reduce(
    (sum, { leaf }) => sum + bytesOf(leaf),
    0,
  );
}
