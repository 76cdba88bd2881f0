/** What lies between a tensor of a published checkpoint and ours: rearrangements, as data. */

import { concat, permute, reshape, slice } from "../../kernels/mod.ts";
import { sizeOf, type Tensor } from "../graph/mod.ts";

/** `[first, count]` */
export type Range = readonly [number, number];

export type Step =
  /** One of the tensors that lie along the first axis. */
  | { readonly kind: "entry"; readonly at: number }
  /** The rows are `groups` of as many; of each group these ranges. All groups' first ranges come first, then all second. */
  | { readonly kind: "rows"; readonly groups: number; readonly take: readonly Range[] }
  /** −1 is what is left. */
  | { readonly kind: "reshape"; readonly shape: readonly number[] }
  | { readonly kind: "transpose" };

/** Numbers with their shape. */
export interface Values {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** The shape that steps end with; undefined where one of them does not fit what it is given. */
export function shapeAfter(
  steps: readonly Step[],
  shape: readonly number[],
): readonly number[] | undefined {
  return steps.reduce<readonly number[] | undefined>(
    (before, step) => before && oneShape(step, before),
    shape,
  );
}

function oneShape(step: Step, shape: readonly number[]): readonly number[] | undefined {
  const [first, ...rest] = shape;
  switch (step.kind) {
    case "entry":
      return step.at < first ? rest : undefined;
    case "rows": {
      const { groups, take } = step, all = first / groups;
      if (!Number.isInteger(all) || take.some(([from, count]) => from + count > all)) {
        return undefined;
      }
      return [groups * take.reduce((sum, [, count]) => sum + count, 0), ...rest];
    }
    case "reshape": {
      const known = sizeOf(step.shape.filter((size) => size >= 0)), left = sizeOf(shape) / known;
      const full = step.shape.map((size) => size < 0 ? left : size);
      return Number.isInteger(left) && sizeOf(full) === sizeOf(shape) ? full : undefined;
    }
    case "transpose":
      return shape.length === 2 ? [rest[0], first] : undefined;
  }
}

/** Takes the steps on numbers; a step that does not fit is a fault of the caller, who has `shapeAfter`. */
export function rearranged(values: Values, steps: readonly Step[]): Values {
  return steps.reduce((before, step) => {
    const shape = oneShape(step, before.shape);
    if (!shape) throw new Error(`${describeStep(step)} does not fit [${before.shape}]`);
    return { shape, data: oneStep(before, step) };
  }, values);
}

function oneStep({ shape, data }: Values, step: Step): Float32Array {
  const [first, ...rest] = shape, width = sizeOf(rest);
  switch (step.kind) {
    case "entry":
      return data.subarray(step.at * width, (step.at + 1) * width);
    case "rows": {
      const { groups, take } = step, all = first / groups;
      const out = new Float32Array(
        groups * width * take.reduce((sum, [, count]) => sum + count, 0),
      );
      let at = 0;
      for (const [from, count] of take) {
        for (let group = 0; group < groups; group++, at += count * width) {
          const begin = (group * all + from) * width;
          out.set(data.subarray(begin, begin + count * width), at);
        }
      }
      return out;
    }
    case "reshape":
      return data;
    case "transpose":
      return Float32Array.from(
        { length: data.length },
        (_, i) => data[(i % first) * width + Math.floor(i / first)],
      );
  }
}

/** The same as graph, so that gradients find their way back. */
export function rearrangedTensor(x: Tensor, steps: readonly Step[]): Tensor {
  return steps.reduce((before, step) => {
    const [, ...rest] = before.shape;
    switch (step.kind) {
      case "entry":
        return reshape(slice(before, 0, step.at, 1), rest);
      case "rows": {
        const grouped = reshape(before, [step.groups, -1, ...rest]);
        const parts = step.take.map(([from, count]) =>
          reshape(slice(grouped, 1, from, count), [-1, ...rest])
        );
        return parts.length === 1 ? parts[0] : concat(parts, 0);
      }
      case "reshape":
        return reshape(before, step.shape);
      case "transpose":
        return permute(before, [1, 0]);
    }
  }, x);
}

/** For people. */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case "entry":
      return `entry ${step.at}`;
    case "rows": {
      const ranges = step.take.map(([from, count]) => `${from} … ${from + count - 1}`);
      return `rows ${ranges.join(", ")}${
        step.groups > 1 ? ` of each of ${step.groups} groups` : ""
      }`;
    }
    case "reshape":
      return `as [${step.shape}]`;
    case "transpose":
      return "transposed";
  }
}
