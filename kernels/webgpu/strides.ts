/**
 * Strided reads in WGSL: axes that all reads walk alike are merged, and what remains is printed as
 * index arithmetic whose sizes and strides come from the uniform. Only the pattern (which strides
 * are 0 or 1) is in the text.
 */

import type { Access } from "../fused.ts";
import { denseStrides, joinAxes } from "../layout.ts";

/** An iteration space with as few axes as its reads allow. */
export interface Space {
  readonly dims: readonly number[];
  readonly accesses: readonly Access[];
}

/** The same walk, in the same order, over the fewest axes. */
export function collapse(shape: readonly number[], accesses: readonly Access[]): Space {
  const joined = joinAxes(shape, accesses.map(({ strides }) => strides));
  return {
    dims: joined.shape,
    accesses: accesses.map(({ offset }, i) => ({ strides: joined.strides[i], offset })),
  };
}

/** Index expressions of a space's accesses at the linear point `i`. */
export interface Indices {
  /** Lines that take `i` apart, if any expression needs it. */
  readonly lines: readonly string[];
  /** For each access its element index as a u32 expression. */
  readonly expressions: readonly string[];
  readonly uints: Readonly<Record<string, number>>;
}

/** `i` names the point's u32 variable; names of parameters begin with `prefix`. */
export function indicesWgsl({ dims, accesses }: Space, i: string, prefix = "x"): Indices {
  const uints: Record<string, number> = {}, dense = denseStrides(dims).join();
  const one = dims.length <= 1;
  let apart = false;
  const expressions = accesses.map(({ strides, offset }, k) => {
    const terms: string[] = [];
    if (offset !== 0) {
      uints[`${prefix}${k}_first`] = offset;
      terms.push(`params.${prefix}${k}_first`);
    }
    if (dims.length > 0 && strides.join() === dense) terms.push(i);
    else {
      strides.forEach((stride, axis) => {
        if (stride === 0) return;
        const at = one ? i : `${i}_${axis}`;
        if (!one) apart = true;
        if (stride === 1) terms.push(at);
        else {
          uints[`${prefix}${k}_stride${axis}`] = stride;
          terms.push(`${at} * params.${prefix}${k}_stride${axis}`);
        }
      });
    }
    return terms.join(" + ") || "0u";
  });
  return { lines: apart ? takeApart(dims, i, prefix, uints) : [], expressions, uints };
}

function takeApart(
  dims: readonly number[],
  i: string,
  prefix: string,
  uints: Record<string, number>,
): string[] {
  const lines: string[] = [];
  let rest = i;
  for (let axis = dims.length - 1; axis > 0; axis--) {
    const size = `params.${prefix}_size${axis}`;
    uints[`${prefix}_size${axis}`] = dims[axis];
    lines.push(
      `let ${i}_${axis} = ${rest} % ${size};`,
      `let ${i}_above${axis} = ${rest} / ${size};`,
    );
    rest = `${i}_above${axis}`;
  }
  return [...lines, `let ${i}_0 = ${rest};`];
}
