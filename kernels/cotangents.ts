/**
 * Sums of cotangents. What flows back to a tensor that was read in parts is each part between zeros; where the parts do
 * not overlap they are joined, once, instead of added up at full length one by one.
 */

import type { Tensor } from "../core/graph/mod.ts";
import { add, fill } from "./elementwise.ts";
import { concat } from "./layout.ts";

/** A stretch of a joined tensor's axis; no tensor: zeros. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly tensor: Tensor | undefined;
}

const isZero = ({ node: { op, attrs } }: Tensor) => op.name === "fill" && attrs.value === 0;

/** What a tensor is joined of, where some of it is zeros. */
function stretchesOf({ node, shape }: Tensor): { axis: number; stretches: Stretch[] } | undefined {
  if (node.op.name !== "concat" || !node.inputs.some(isZero)) return undefined;
  const axis = node.attrs.axis as number;
  let from = 0;
  const stretches = node.inputs.map((tensor) => {
    const to = from + tensor.shape[axis],
      stretch = { from, to, tensor: isZero(tensor) ? undefined : tensor };
    from = to;
    return stretch;
  });
  return shape[axis] === from ? { axis, stretches } : undefined;
}

/** a + b */
export function addCotangents(a: Tensor, b: Tensor): Tensor {
  const x = stretchesOf(a), y = stretchesOf(b);
  if (!x || !y || x.axis !== y.axis) return add(a, b);
  const filled = [...x.stretches, ...y.stretches].filter(({ tensor }) => tensor)
    .sort((one, other) => one.from - other.from);
  if (filled.some(({ from }, i) => i > 0 && from < filled[i - 1].to)) return add(a, b);
  const parts: Tensor[] = [], { axis } = x, length = a.shape[axis];
  const zeros = (from: number, to: number) => {
    if (to > from) parts.push(fill(a.shape.with(axis, to - from), 0));
  };
  let done = 0;
  for (const { from, to, tensor } of filled) {
    zeros(done, from);
    parts.push(tensor!);
    done = to;
  }
  zeros(done, length);
  return concat(parts, axis);
}
