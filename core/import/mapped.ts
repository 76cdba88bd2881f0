/** A published checkpoint's weights under our names, read when they are asked for. */

import { exitCodes, UserError } from "../io/errors.ts";
import type { TensorInfo } from "../io/safetensors.ts";
import type { Tensors } from "../io/tensors.ts";
import type { Mapping } from "./mapping.ts";
import { rearranged } from "./steps.ts";
import type { Weights } from "./weights.ts";

/** All f32. Closing them closes the weights. */
export function mappedTensors({ origins }: Mapping, weights: Weights): Tensors {
  const byPath = new Map(origins.map((origin) => [origin.param.path, origin]));
  const read = (name: string) => {
    const { theirs, steps } = byPath.get(name)!, { shape } = weights.tensors.get(theirs)!;
    return rearranged({ shape, data: weights.read(theirs) }, steps).data;
  };
  return {
    path: weights.where,
    tensors: new Map(
      origins.map(({ param: { path, shape } }): [string, TensorInfo] => [
        path,
        { dtype: "F32", shape },
      ]),
    ),
    read,
    readInto(name, into, at) {
      const { theirs, steps } = byPath.get(name)!;
      if (steps.length === 0) weights.readInto(theirs, into, at);
      else into.set(read(name).subarray(at, at + into.length));
    },
    storesBf16(name) {
      const { theirs, steps } = byPath.get(name)!;
      return steps.length === 0 && weights.storesBf16(theirs);
    },
    readBf16Into: (name, into, at) => weights.readBf16Into(byPath.get(name)!.theirs, into, at),
    [Symbol.dispose]: () => weights[Symbol.dispose](),
  };
}

/** Two names for what the config shares must mean the same numbers. */
export function requireTwins({ twin }: Mapping, weights: Weights): void {
  if (!twin) return;
  const [name, same] = twin, values = weights.read(name), others = weights.read(same);
  if (values.length === others.length && values.every((x, i) => x === others[i])) return;
  throw new UserError(`${same} is not the same as ${name}, but the config shares them`, {
    where: weights.where,
    hint:
      "if the model has an output matrix of its own: --set model.head.tie_word_embeddings=false",
    exitCode: exitCodes.failed,
  });
}
