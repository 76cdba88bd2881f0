/** What states of parts have in common: how they begin, what padding does, and the rows before new tokens. */

import {
  add,
  concat,
  constant,
  equal,
  less,
  matmul,
  reshape,
  slice,
  toFloat,
  where,
} from "../../kernels/mod.ts";
import type { Spec, Tensor } from "../graph/mod.ts";
import type { Room, StepContext } from "./part.ts";

/**
 * A place for each position of a row: what lies at a row's length and beyond is unseen, and
 * overwritten in time. So a text goes back to any of its beginnings by its length alone; state
 * without this mark holds the sum of what was read, and must be kept or made anew.
 */
export interface PlacesSpec extends Spec {
  readonly places: true;
}

/** Places [batch, capacity, …] for rows of values of the given shape. */
export function placesFor({ batch, capacity }: Room, shape: readonly number[]): PlacesSpec {
  return { shape: [batch, capacity, ...shape], dtype: "f32", places: true };
}

/** Whether a state goes back to an earlier length by that length alone. */
export function hasPlaces(spec: Spec): spec is PlacesSpec {
  return "places" in spec;
}

/** The state [batch, …], empty where a row begins: whatever the buffers hold, NaN included. */
export function fromStart(state: Tensor, { start }: StepContext): Tensor {
  const [batch, ...rest] = state.shape;
  return where(reshape(toFloat(start), [batch, ...rest.map(() => 1)]), state, 0);
}

/** 1 for a row's own new tokens, 0 for padding: [batch, time]; nothing where there is none. */
export function ownTokens({ ids, lengths }: StepContext): Tensor | undefined {
  const [batch, time] = ids.shape;
  return lengths && less(counting(time, [1, time]), reshape(toFloat(lengths), [batch, 1]));
}

/** The state of what looks back `rows` tokens. */
export function tailState(rows: number, channels: number, batch: number): Spec {
  return { shape: [batch, rows, channels], dtype: "f32" };
}

/**
 * The rows before new ones x [batch, time, channels] with them, [batch, rows + time, channels], zeros where nothing
 * came before; and the next such tail, of which padding is no part.
 */
export function withTail(
  tail: Tensor,
  x: Tensor,
  ctx: StepContext,
): { joined: Tensor; tail: Tensor } {
  const rows = tail.shape[1], [batch, time] = x.shape, all = rows + time;
  const joined = concat([fromStart(tail, ctx), x], 1);
  if (!ctx.lengths) return { joined, tail: slice(joined, 1, time, rows) };
  const wanted = add(counting(rows, [1, rows, 1]), reshape(toFloat(ctx.lengths), [batch, 1, 1]));
  return { joined, tail: matmul(equal(counting(all, [1, 1, all]), wanted), joined) };
}

function counting(n: number, shape: readonly number[]): Tensor {
  return reshape(
    constant(`counting ${n}`, [n], Float32Array.from({ length: n }, (_, i) => i)),
    shape,
  );
}
