/**
 * Random graphs of everything that the planner rewrites: element-wise work, casts, views, row
 * reductions, products, reshapes.
 */

import * as k from "../../../kernels/mod.ts";
import { type Graph, philox, sizeOf, type Tensor, trace } from "../../../core/graph/mod.ts";

/** A source of small whole numbers, by seed. */
export function dice(seed: number): (sides: number) => number {
  let at = 0;
  return (sides) => philox(at++, 0, 0, 0, seed, 0)[0] % sides;
}

const INPUTS = {
  a: [3, 4, 5],
  b: [4, 5],
  c: [3, 4, 1],
  d: [5],
  e: [12, 5],
  w: [5, 5],
  s: [2, 5, 5],
} as const;

/** Values for the inputs of any random graph. */
export function randomInputs(seed: number): Record<string, Float32Array> {
  const roll = dice(seed + 7919);
  return Object.fromEntries(
    Object.entries(INPUTS).map(([name, shape]) => [
      name,
      Float32Array.from({ length: sizeOf(shape) }, () => roll(2001) / 1000 - 1),
    ]),
  );
}

/**
 * A graph of about `size` operations that bounds its values, so that comparisons stay meaningful.
 */
export function randomGraph(seed: number, size: number): Graph {
  const roll = dice(seed),
    specs = Object.fromEntries(
      Object.entries(INPUTS).map((
        [name, shape],
      ) => [name, { shape: [...shape], dtype: "f32" as const }]),
    );
  return trace((_state, batch) => {
    const inputs = batch as unknown as Record<string, Tensor>;
    const pool: Tensor[] = Object.values(inputs);
    for (let i = 0; i < size; i++) pool.push(grow(pool, inputs, roll));
    const outputs: Record<string, Tensor> = {};
    for (let i = 0; i < 3; i++) {
      outputs[`out${i}`] = pool[pool.length - 1 - roll(Math.min(4, pool.length))];
    }
    return { outputs };
  }, { state: {}, batch: specs });
}

function grow(
  pool: readonly Tensor[],
  { w }: Record<string, Tensor>,
  roll: (sides: number) => number,
): Tensor {
  // Recent values more often, so that chains form.
  const pick = () =>
    pool[roll(2) ? pool.length - 1 - roll(Math.min(3, pool.length)) : roll(pool.length)];
  const x = pick(), rank = x.shape.length;
  // A square, turned, meets itself: the same number of points in another order.
  if (roll(6) === 0 && rank > 1 && x.shape.at(-1) === x.shape.at(-2)) {
    const order = [...x.shape.keys()].slice(0, -2).concat(rank - 1, rank - 2);
    return k.sub(k.tanh(x), k.permute(k.sigmoid(x), order));
  }
  switch (roll(12)) {
    case 0:
      return k.sumLast(x).shape.length > 0 ? k.mul(k.sumLast(x), 0.2) : x;
    case 1:
      return k.maxLast(x);
    case 2:
      return k.permute(x, rotated(rank, roll));
    case 3: {
      const axis = roll(rank), length = 1 + roll(x.shape[axis]);
      return k.slice(x, axis, roll(x.shape[axis] - length + 1), length);
    }
    case 4:
      return k.reshape(x, [sizeOf(x.shape) / x.shape.at(-1)!, x.shape.at(-1)!]);
    case 5:
      return x.shape.at(-1) === 5
        ? k.tanh(k.matmul(k.reshape(x, [sizeOf(x.shape) / 5, 5]), w, { transB: roll(2) === 1 }))
        : k.tanh(x);
    case 6:
      return k.cast(k.cast(x, "bf16"), "f32");
    case 7:
      return k.softmaxLast(x);
    default: {
      const partner = [pick(), pick(), pick()].find((y) => broadcasts(x, y));
      const unary = [k.tanh, k.sigmoid, k.relu, k.sin][roll(4)];
      if (!partner) return unary(x);
      return [k.add, k.mul, k.sub, k.maximum][roll(4)](unary(x), partner);
    }
  }
}

const rotated = (rank: number, roll: (sides: number) => number) => {
  const by = roll(rank);
  return Array.from({ length: rank }, (_, axis) => (axis + by) % rank);
};

function broadcasts(x: Tensor, y: Tensor): boolean {
  try {
    return sizeOf(k.broadcastShapes([x.shape, y.shape])) <= 400;
  } catch {
    return false;
  }
}
