/** What the pickle of a file of tensors may name, and what becomes of it: nothing that runs. */

import type { Dtype } from "../dtypes.ts";
import type { TensorInfo } from "../safetensors.ts";
import {
  type Opaque,
  type Pickled,
  type PickledGlobal,
  PickleFault,
  type PickleTable,
} from "./pickle.ts";

/** Numbers in the file, of which tensors are views. */
export interface Storage extends Opaque {
  readonly kind: "storage";
  readonly key: string;
  readonly dtype: Dtype;
  readonly numbers: number;
}

export interface View extends Opaque, TensorInfo {
  readonly kind: "tensor";
  readonly storage: Storage;
  /** Elements before the first. */
  readonly offset: number;
  /** Elements from one to the next, by axis. */
  readonly strides: readonly number[];
}

const mostAxes = 64;

const storageTypes: Readonly<Record<string, Dtype>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

interface StorageType extends PickledGlobal {
  readonly kind: "storage type";
  readonly dtype: Dtype;
}

/** All that a pickle of tensors may name. */
export const torchTable: PickleTable = {
  globals: new Map<string, PickledGlobal>([
    ["collections.OrderedDict", { kind: "function", call: orderedDict }],
    ["torch._utils._rebuild_tensor", { kind: "function", call: viewFrom }],
    ["torch._utils._rebuild_tensor_v2", { kind: "function", call: viewFrom }],
    ["torch._utils._rebuild_parameter", { kind: "function", call: ([data]) => data ?? null }],
    ["torch.Size", { kind: "function", call: ([sizes]) => sizes ?? null }],
    ...Object.entries(storageTypes).flatMap(([name, dtype]) =>
      ["torch", "torch.storage", "torch.cuda"].map((module): [string, StorageType] => [
        `${module}.${name}`,
        { kind: "storage type", dtype },
      ])
    ),
  ]),
  persistent: storageOf,
};

/** Of a list of pairs, or of nothing. */
function orderedDict([pairs = []]: readonly Pickled[]): Pickled {
  const isPair = (pair: Pickled): pair is [Pickled, Pickled] =>
    Array.isArray(pair) && pair.length === 2;
  if (Array.isArray(pairs) && pairs.every(isPair)) return new Map(pairs);
  throw new PickleFault("an OrderedDict of something else than pairs");
}

function isSize(value: Pickled | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isSizes(value: Pickled | undefined): value is number[] {
  return Array.isArray(value) && value.length <= mostAxes && value.every(isSize);
}

export function isKind(value: Pickled | undefined, kind: string): value is Opaque {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === kind;
}

/** `("storage", type, key, device, numbers)`, and in the old layout what part of another it is: nothing. */
export function storageOf(id: Pickled): Storage {
  const [tag, type, key, , numbers, part = null] = Array.isArray(id) ? id as Pickled[] : [];
  const isStorage = tag === "storage" && isKind(type, "storage type") &&
    typeof key === "string" && isSize(numbers) && part === null;
  if (!isStorage) throw new PickleFault("what it refers to is no storage of numbers");
  return { kind: "storage", key, dtype: (type as StorageType).dtype, numbers };
}

/** `(storage, offset, size, strides, requires_grad, hooks, metadata)`; what of it is no place in memory says nothing. */
function viewFrom(args: readonly Pickled[]): View {
  const [storage, offset, shape, strides, , , metadata = null] = args;
  const isView = isKind(storage, "storage") && isSize(offset) && isSizes(shape) &&
    isSizes(strides) && shape.length === strides.length;
  if (!isView) throw new PickleFault("the description of a tensor is damaged");
  const isPlain = metadata === null || metadata instanceof Map && metadata.size === 0;
  if (!isPlain) throw new PickleFault("a tensor is conjugated or negated lazily");
  const { dtype } = storage as Storage;
  return { kind: "tensor", storage: storage as Storage, dtype, offset, shape, strides };
}
