/**
 * Walking several strided operands together, row by row: the loop nest of fused programs. Sizes and
 * strides are argument words, so kernels of equal structure share their code; what is known to
 * repeat (stride 0) costs nothing.
 */

import { sizeOf } from "../../core/graph/tensor.ts";
import type { Access } from "../fused.ts";
import type { JobArg } from "../lowering.ts";
import { sizeShift } from "./elements.ts";
import { type FunctionBuilder, type I32, i32, type I32Value, type Local } from "./encode.ts";
import type { Stored } from "./panels.ts";

/** Strides are in elements; the last is that along the row. */
export interface Stream extends Access {
  readonly type: Stored;
}

/**
 * Rows of `width` elements over `outer` axes. Blocked: the last outer axis counts blocks of a
 * longer row.
 */
export interface Walk {
  readonly outer: readonly number[];
  readonly width: number;
  readonly blocked: boolean;
  readonly streams: readonly Stream[];
}

/**
 * Elements in a block of a row: large against the cost of starting one, small against the L1 cache.
 */
export const blockElements = 4096;

/**
 * The walk over `shape` with as few axes as its streams allow. `whole` rows are kept as they are
 * and undivided, for reductions; else neighbouring axes merge with the row too, and long rows are
 * cut into blocks.
 */
export function walkOver(
  shape: readonly number[],
  streams: readonly Stream[],
  { whole }: { whole: boolean },
): Walk {
  // One axis after another, from the last: [size, stride of each stream].
  const axes: { size: number; strides: number[] }[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis], strides = streams.map((stream) => stream.strides[axis]);
    if (size === 1 && axes.length > 0) continue;
    const inner = axes.at(-1), row = axes.length === 1;
    if (inner && inner.size === 1 && !(row && whole)) axes.splice(-1, 1, { size, strides });
    else if (
      inner && !(row && whole) && strides.every((s, n) => s === inner.strides[n] * inner.size)
    ) inner.size *= size;
    else axes.push({ size, strides: size === 1 ? strides.map(() => 0) : strides });
  }
  const [{ size: width, strides: along }] = axes, outer = axes.slice(1).reverse();
  const blocked = !whole && width > blockElements;
  if (blocked) {
    const size = Math.ceil(width / blockElements);
    outer.push({ size, strides: along.map((stride) => stride * blockElements) });
  }
  return {
    outer: outer.map(({ size }) => size),
    width,
    blocked,
    streams: streams.map(({ offset, type }, n) => ({
      offset,
      type,
      strides: [...outer.map(({ strides }) => strides[n]), along[n]],
    })),
  };
}

export const rowsOf = ({ outer }: Walk) => sizeOf(outer);

/** What is repeated, dense or strided: the part of a walk that is printed into the code. */
export function walkKey({ outer, blocked, streams }: Walk): string {
  const parts = streams.map(({ type, strides }) =>
    type +
    strides.map((stride, axis) =>
      stride === 0 ? "0" : axis < outer.length ? "s" : stride === 1 ? "1" : "s"
    ).join("")
  );
  return `${outer.length}${blocked ? "b" : ""}:${parts.join(",")}`;
}

/** The argument words that `emitWalk` reads, in its order. */
export function walkArgs({ outer, width, streams }: Walk, operands: readonly JobArg[]): JobArg[] {
  return [
    width,
    ...outer,
    ...streams.flatMap(({ type, offset, strides }, n) => {
      const bytes = 1 << sizeShift(type), inner = strides.at(-1)!;
      return [
        operands[n],
        offset * bytes,
        ...strides.slice(0, -1).filter((stride) => stride !== 0).map((stride) => stride * bytes),
        ...(inner > 1 ? [inner * bytes] : []),
      ];
    }),
  ];
}

export interface Walker {
  /** Elements in this row or block. */
  readonly count: Local<"i32">;
  /** Where each stream's row starts. */
  readonly rows: readonly Local<"i32">[];
  /** Bytes from one element to the next; undefined where they lie densely or repeat. */
  readonly steps: readonly (I32 | undefined)[];
  /** The argument word after the walk's. */
  readonly nextWord: number;
  /** Does rows begin..end. */
  each(begin: I32Value, end: I32Value, body: () => void): void;
}

/** Reads the walk's argument words from word `next` on. */
export function emitWalk(f: FunctionBuilder, walk: Walk, next = 0): Walker {
  const { blocked, streams } = walk, axes = walk.outer.length;
  const word = () => f.arg(next++);
  const width = word(), sizes = walk.outer.map(word);
  const rows: Local<"i32">[] = [], steps: (I32 | undefined)[] = [];
  const bases: I32[] = [], strides: (Local<"i32"> | undefined)[][] = [];
  for (const { strides: known } of streams) {
    bases.push(f.i32(i32.add(word(), word())));
    strides.push(known.slice(0, -1).map((stride) => stride === 0 ? undefined : word()));
    steps.push(known.at(-1)! > 1 ? word() : undefined);
    rows.push(f.i32());
  }
  const moves = strides.map((of, n) =>
    of.map((stride, axis) =>
      stride && { row: rows[n], stride, back: f.i32(i32.mul(stride, sizes[axis])) }
    )
  );
  const counters = sizes.map(() => f.i32()), count = f.i32(width);

  function start(begin: I32Value): void {
    const rest = f.i32(begin);
    for (let axis = axes - 1; axis >= 0; axis--) {
      if (axis === 0) f.set(counters[0], rest);
      else {
        f.set(counters[axis], i32.remU(rest, sizes[axis]));
        f.set(rest, i32.divU(rest, sizes[axis]));
      }
    }
    rows.forEach((row, n) => {
      f.set(
        row,
        strides[n].reduce<I32>(
          (sum, stride, axis) => stride ? i32.add(sum, i32.mul(counters[axis], stride)) : sum,
          bases[n],
        ),
      );
    });
  }

  /** One step along an axis, carrying into the axis before it. */
  function advance(axis: number): void {
    if (axis < 0) return;
    for (const of of moves) if (of[axis]) f.advance(of[axis].row, of[axis].stride);
    f.advance(counters[axis], 1);
    if (axis === 0) return;
    f.if(i32.geU(counters[axis], sizes[axis]), () => {
      f.set(counters[axis], 0);
      for (const of of moves) {
        if (of[axis]) f.set(of[axis].row, i32.sub(of[axis].row, of[axis].back));
      }
      advance(axis - 1);
    });
  }

  function each(begin: I32Value, end: I32Value, body: () => void): void {
    const row = f.i32();
    start(begin);
    f.forRange(row, begin, end, 1, () => {
      if (blocked) {
        const done = f.i32(i32.mul(counters[axes - 1], blockElements));
        f.set(count, i32.minU(i32.sub(width, done), blockElements));
      }
      body();
      advance(axes - 1);
    });
  }
  return { count, rows, steps, nextWord: next, each };
}
