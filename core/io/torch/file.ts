/**
 * PyTorch's own files: what torch.save writes of tensors in dicts. The tensors' names and places are a pickle, which is read by
 * `readPickle` and never run; their numbers are read from the file when they are asked for.
 *
 * Two layouts: a zip archive (`name/data.pkl` and a storage each in `name/data/KEY`), and before PyTorch 1.6 pickles one after
 * the other with all storages behind them.
 *
 * @module
 */
import { dtypeArrays, dtypeBytes, type TensorData, widen } from "../dtypes.ts";
import { RangeFile } from "../ranges.ts";
import type { TensorInfo } from "../safetensors.ts";
import type { LeftOut, TensorFile } from "../tensors.ts";
import { readContents } from "./contents.ts";
import { broken } from "./faults.ts";
import { stateDict } from "./state_dict.ts";
import { isContiguous, lastOf, numbersOf, rowMajor } from "./strided.ts";
import type { View } from "./table.ts";
import type { ZipEntry } from "./zip.ts";

/** An open file of tensors; close it with `using`. */
export class TorchFile implements TensorFile {
  /** In the pickle's order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly leftOut: readonly LeftOut[];
  readonly #views: ReadonlyMap<string, View>;
  readonly #storages: ReadonlyMap<string, ZipEntry>;
  readonly #file: RangeFile;
  #last: { readonly name: string; readonly values: TensorData } | undefined;

  constructor(readonly path: string) {
    using stack = new DisposableStack();
    this.#file = stack.use(new RangeFile(path));
    const { root, storages } = readContents(this.#file);
    const { views, leftOut } = stateDict(root, path);
    for (const [name, view] of views) checkView(name, view, storages, path);
    this.#storages = storages;
    this.leftOut = leftOut;
    this.tensors = this.#views = views;
    stack.move();
  }

  #view(name: string): View {
    const view = this.#views.get(name);
    if (view === undefined) throw broken(this.path, `there is no tensor named ${name}`);
    return view;
  }

  /** The values of one tensor in row-major order, in memory of their own, or that of the last call. */
  read(name: string): TensorData {
    if (this.#last?.name === name) return this.#last.values;
    const { storage: { key, dtype }, shape, strides, offset } = this.#view(name);
    const at = this.#storages.get(key)!.begin + offset * dtypeBytes(dtype);
    const count = numbersOf(shape);
    if (count === 0 || isContiguous(shape, strides)) return this.#file.values(at, dtype, count);
    const stored = this.#file.values(at, dtype, lastOf(shape, strides) + 1);
    const values = rowMajor(stored, shape, strides, new dtypeArrays[dtype](count));
    this.#last = { name, values };
    return values;
  }

  /** The values from element `at` on of a tensor of floats, as f32, as many as `into` holds. */
  readInto(name: string, into: Float32Array, at: number): void {
    const { storage: { key, dtype }, shape, strides, offset } = this.#view(name);
    if (at + into.length > numbersOf(shape)) throw new RangeError(`${name} ends before`);
    if (isContiguous(shape, strides)) {
      const from = this.#storages.get(key)!.begin + (offset + at) * dtypeBytes(dtype);
      return this.#file.floats(from, dtype, into);
    }
    widen(this.read(name).subarray(at, at + into.length), dtype, into);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Opens a file: its directory and pickle are read and checked, its values are not. */
export function openTorch(path: string): TorchFile {
  return new TorchFile(path);
}

/** A tensor must lie within its storage, and that in the file; then its size is bounded by the file's. */
function checkView(
  name: string,
  { storage: { key, dtype, numbers }, offset, shape, strides }: View,
  storages: ReadonlyMap<string, ZipEntry>,
  path: string,
): void {
  const place = storages.get(key), needed = numbers * dtypeBytes(dtype), count = numbersOf(shape);
  if (!place) throw broken(path, `${name}'s numbers are missing: there is no storage ${key}`);
  if (place.bytes < needed) {
    throw broken(path, `${name}'s storage takes ${needed} bytes but has ${place.bytes}`);
  }
  if (count === 0) return;
  if (!(offset + lastOf(shape, strides) < numbers)) {
    throw broken(path, `${name} [${shape}] reaches beyond its storage of ${numbers} numbers`);
  }
  if (!(count <= numbers)) {
    throw broken(path, `${name} [${shape}] has more numbers than its storage, ${numbers}`);
  }
}
