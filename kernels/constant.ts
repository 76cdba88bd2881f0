/** Tensors whose values are known while tracing: tables, masks. Uploaded once with a plan. */

import { apply, expect, type Numbers, sizeOf, type Spec, type Tensor } from "../core/graph/mod.ts";
import { defineOp, type Kernel } from "./lowering.ts";

export type ConstantData = Float32Array | Int32Array | Uint32Array;

/**
 * Attrs: `key` names the values (equal keys, equal values: they are merged), `values` is not
 * compared.
 */
export const constantOp: Kernel = defineOp({
  name: "constant",
  constant: true,
  check(_: readonly Spec[], attrs) {
    const values = attrs.values as ConstantData, shape = attrs.shape as number[];
    expect(values.length === sizeOf(shape), `${values.length} values do not fill [${shape}]`);
    const dtype = values instanceof Float32Array
      ? "f32"
      : values instanceof Int32Array
      ? "i32"
      : "u32";
    return [{ shape, dtype }];
  },
  reference: (_, [out], { attrs }) => void out.set(attrs.values as Numbers & ConstantData),
});

export function constant(key: string, shape: readonly number[], values: ConstantData): Tensor {
  return apply(constantOp, [], { key, shape: [...shape], values })[0];
}
