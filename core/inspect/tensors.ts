/** What numbers the tensors of a file hold, read a part at a time. */

import { SafetensorsFile, type TensorArray, type TensorInfo } from "../io/safetensors.ts";
import type { Tensors } from "../io/tensors.ts";
import type { NamedParam } from "../model/mod.ts";
import type { Role } from "../nn/mod.ts";

export interface TensorStats extends TensorInfo {
  readonly name: string;
  /** What the model has it for; undefined where no model says it. */
  readonly role: Role | undefined;
  readonly count: number;
  /** Of the finite ones: √(mean x²), the largest |x|, and the mean. */
  readonly rms: number;
  readonly max: number;
  readonly mean: number;
  readonly zeros: number;
  /** NaN and ±∞. */
  readonly nonFinite: number;
}

/** Statistics of every tensor, in the file's order. */
export function* tensorStats(
  file: Tensors,
  params: readonly NamedParam[] = [],
): Generator<TensorStats> {
  const byPath = new Map(params.map((param) => [param.path, param.role]));
  for (const [name, info] of file.tensors) {
    const { dtype, shape } = info; // files know more
    yield {
      name,
      role: byPath.get(name),
      dtype,
      shape,
      ...summed(partsOf(file, name, info)),
    };
  }
}

const partLength = 2 ** 18;

/** A tensor's values, some at a time where its file can. Each part is valid until the next. */
function* partsOf(
  file: Tensors,
  name: string,
  { dtype, shape }: TensorInfo,
): Generator<TensorArray> {
  const count = shape.reduce((product, size) => product * size, 1);
  if (file.readInto && ["F32", "F16", "BF16"].includes(dtype)) {
    const part = new Float32Array(Math.min(partLength, count));
    for (let at = 0; at < count; at += partLength) {
      const values = part.subarray(0, Math.min(partLength, count - at));
      file.readInto(name, values, at);
      yield values;
    }
  } else if (file instanceof SafetensorsFile) yield* file.chunks(name, partLength);
  else yield file.read(name);
}

type Sums = Pick<TensorStats, "count" | "rms" | "max" | "mean" | "zeros" | "nonFinite">;

function summed(parts: Iterable<TensorArray>): Sums {
  let count = 0, nonFinite = 0, zeros = 0, sum = 0, squares = 0, max = 0;
  for (const values of parts) {
    count += values.length;
    for (let i = 0; i < values.length; i++) {
      const x = Number(values[i]), size = Math.abs(x);
      if (size <= Number.MAX_VALUE) {
        sum += x;
        squares += x * x;
        if (size > max) max = size;
        if (x === 0) zeros++;
      } else nonFinite++;
    }
  }
  const finite = Math.max(1, count - nonFinite);
  return {
    count,
    nonFinite,
    zeros,
    max,
    mean: sum / finite,
    rms: Math.sqrt(squares / finite),
  };
}

/** Tensors whose names differ in numbers alone, such as those of all layers, in one line. */
export interface TensorGroup {
  /** `layers.*.mlp.up` */
  readonly pattern: string;
  readonly role: Role | undefined;
  readonly dtype: string;
  /** Undefined where they differ. */
  readonly shape: readonly number[] | undefined;
  readonly tensors: number;
  readonly count: number;
  /** The least and the greatest of the tensors. */
  readonly rms: readonly [number, number];
  readonly max: number;
  readonly zeros: number;
  readonly nonFinite: number;
}

const patternOf = (name: string) => name.replaceAll(/(^|\.)\d+(?=\.|$)/g, "$1*");

export function groupTensors(all: readonly TensorStats[]): TensorGroup[] {
  const groups = new Map<string, TensorStats[]>();
  for (const one of all) {
    const key = `${patternOf(one.name)} ${one.role} ${one.dtype}`;
    groups.set(key, [...groups.get(key) ?? [], one]);
  }
  return [...groups.values()].map((members) => {
    const [{ name, role, dtype, shape }] = members,
      sum = (of: (one: TensorStats) => number) =>
        members.reduce((total, one) => total + of(one), 0);
    const rms = members.map(({ rms }) => rms);
    return {
      pattern: members.length === 1 ? name : patternOf(name),
      role,
      dtype,
      shape: members.every((one) => one.shape.join() === shape.join()) ? shape : undefined,
      tensors: members.length,
      count: sum(({ count }) => count),
      rms: [Math.min(...rms), Math.max(...rms)],
      max: Math.max(...members.map(({ max }) => max)),
      zeros: sum(({ zeros }) => zeros),
      nonFinite: sum(({ nonFinite }) => nonFinite),
    };
  });
}
