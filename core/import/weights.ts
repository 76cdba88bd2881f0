/** The weights of a published checkpoint: a file of tensors, or several that an index joins. */

import { dirname, extname, join } from "node:path";
import { sizeOf } from "../graph/mod.ts";
import { exists } from "../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../io/errors.ts";
import type { TensorInfo } from "../io/safetensors.ts";
import { type LeftOut, openTensorFile, type TensorFile } from "../io/tensors.ts";

/** Open tensors by name; close them with `using`. */
export interface Weights extends Disposable {
  readonly where: string;
  readonly files: readonly string[];
  /** What stands before the names in the files is left out here: see `wrappers`. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** What else the files hold. */
  readonly leftOut: readonly LeftOut[];
  /** A tensor's numbers as f32; what is not finite is refused. The last one read is kept. */
  read(name: string): Float32Array;
  /** The same of those from element `at` on, as many as `into` holds, which is not kept. */
  readInto(name: string, into: Float32Array, at: number): void;
  /** Whether a tensor is stored as bf16, whose bits `readBf16Into` reads as they are, finite too. */
  storesBf16(name: string): boolean;
  readBf16Into(name: string, into: Uint16Array, at: number): void;
}

/** What a folder's weights are called, the first that is there being taken. */
const names = ["model.safetensors", "pytorch_model.bin"];
const indexOf = (name: string) => `${name}.index.json`;
/** What else may be the weights, where a folder has just one. */
const kinds = [
  { of: "safetensors", endings: [".safetensors"] },
  { of: "PyTorch", endings: [".bin", ".ckpt", ".pt", ".pth"] },
];

/** What frameworks put before the names of a model that they wrap. */
const wrappers = /^(?:module\.|_orig_mod\.|model\.)+/;

/** Opens a file, an index, or what a folder holds; headers are read and checked, numbers are not. */
export async function openWeights(path: string): Promise<Weights> {
  const files = await filesOf(path);
  using stack = new DisposableStack();
  const places = new Map<string, { file: TensorFile; name: string }>();
  for (const file of files) {
    const opened = stack.use(await openTensorFile(file));
    for (const name of opened.tensors.keys()) {
      const plain = name.replace(wrappers, ""), other = places.get(plain);
      if (other) throw twice(plain, file, other);
      places.set(plain, { file: opened, name });
    }
  }
  if (places.size === 0) {
    throw new UserError("it holds no tensors", { where: path, exitCode: exitCodes.failed });
  }
  let last: { readonly name: string; readonly data: Float32Array } | undefined;
  const requireFinite = (
    data: Float32Array | Uint16Array,
    { file, name }: { file: TensorFile; name: string },
  ) => {
    if (data instanceof Float32Array ? isFiniteAll(data) : isFiniteBf16(data)) return;
    throw new UserError(`${name} holds numbers that are not finite, or too large for f32`, {
      where: file.path,
      exitCode: exitCodes.failed,
    });
  };
  const owned = stack.move();
  return {
    where: path,
    files,
    tensors: new Map(
      [...places].map(([plain, { file, name }]) => [plain, file.tensors.get(name)!]),
    ),
    leftOut: [...new Set(places.values().map(({ file }) => file))].flatMap((file) =>
      file.leftOut ?? []
    ),
    read(plain) {
      if (last?.name === plain) return last.data;
      const { file, name } = places.get(plain)!;
      const data = new Float32Array(sizeOf(file.tensors.get(name)!.shape));
      file.readInto(name, data, 0);
      requireFinite(data, { file, name });
      last = { name: plain, data };
      return data;
    },
    readInto(plain, into, at) {
      const place = places.get(plain)!;
      for (let done = 0; done < into.length; done += looked) {
        const piece = into.subarray(done, done + looked);
        place.file.readInto(place.name, piece, at + done);
        requireFinite(piece, place);
      }
    },
    storesBf16(plain) {
      const { file, name } = places.get(plain)!;
      return file.storesBf16?.(name) ?? false;
    },
    readBf16Into(plain, into, at) {
      const place = places.get(plain)!;
      for (let done = 0; done < into.length; done += looked) {
        const piece = into.subarray(done, done + looked);
        place.file.readBf16Into!(place.name, piece, at + done);
        requireFinite(piece, place);
      }
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** By the exponent's bits. */
function isFiniteBf16(bits: Uint16Array): boolean {
  for (let i = 0; i < bits.length; i++) if ((bits[i] & 0x7f80) === 0x7f80) return false;
  return true;
}

/** Numbers that are looked at while the processor still has them. */
const looked = 2 ** 18;

function twice(name: string, file: string, other: { file: TensorFile; name: string }) {
  return new UserError(`${name} comes twice: as ${other.name} in ${other.file.path}, and here`, {
    where: file,
    exitCode: exitCodes.failed,
  });
}

/** x · 0 is 0, or NaN where x is not finite; four sums, as each waits for the one before. A plain `every` takes thirty times as long. */
function isFiniteAll(data: Float32Array): boolean {
  let a = 0, b = 0, c = 0, d = 0, i = 0;
  for (; i + 3 < data.length; i += 4) {
    a += data[i] * 0;
    b += data[i + 1] * 0;
    c += data[i + 2] * 0;
    d += data[i + 3] * 0;
  }
  for (; i < data.length; i++) a += data[i] * 0;
  return a + b + c + d === 0;
}

/** The files that a path means. */
async function filesOf(path: string): Promise<string[]> {
  const info = await Deno.stat(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UserError("there is no such file or folder", { where: path });
  });
  if (!info.isDirectory) {
    return extname(path) === ".json" ? await indexedFiles(path) : [path];
  }
  for (const name of names) {
    const file = join(path, name), index = join(path, indexOf(name));
    if (await exists(index)) return await indexedFiles(index);
    if (await exists(file)) return [file];
  }
  const there = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).toSorted();
  for (const [i, { of, endings }] of kinds.entries()) {
    const own = there.filter((name) => endings.includes(extname(name)));
    if (own.length === 1) return [join(path, own[0])];
    if (own.length === 0) continue;
    throw new UserError(`several ${of} files and no ${indexOf(names[i])} that joins them`, {
      where: path,
      hint: "name one of them, or fetch the index, too",
    });
  }
  throw new UserError("it holds no safetensors file, nor one of PyTorch's", { where: path });
}

async function indexedFiles(path: string): Promise<string[]> {
  let index: unknown;
  try {
    index = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(jsonFault(error), { where: path, exitCode: exitCodes.failed });
  }
  const map = typeof index === "object" && index !== null ? Reflect.get(index, "weight_map") : null;
  const isMap = typeof map === "object" && map !== null &&
    Object.values(map).every((name) => typeof name === "string" && isFileName(name));
  if (!isMap) {
    throw new UserError(
      "not an index of weights: weight_map is to name a file beside it for each tensor",
      {
        where: path,
        exitCode: exitCodes.failed,
      },
    );
  }
  const entries = Object.entries(map as Record<string, string>), folder = dirname(path);
  const names = [...new Set(entries.map(([, name]) => name))].toSorted();
  const lacking: string[] = [];
  for (const name of names) if (!await exists(join(folder, name))) lacking.push(name);
  if (lacking.length > 0) {
    throw new UserError(`it names files that are not here: ${lacking.join(", ")}`, {
      where: path,
      exitCode: exitCodes.failed,
    });
  }
  for (const name of names) {
    using file = await openTensorFile(join(folder, name));
    const [gone] = entries.find(([key, of]) => of === name && !file.tensors.has(key)) ?? [];
    if (gone === undefined) continue;
    throw new UserError(`${gone} is not in ${name}, where it is said to be`, {
      where: path,
      exitCode: exitCodes.failed,
    });
  }
  return names.map((name) => join(folder, name));
}

/** Nothing that leads elsewhere. */
function isFileName(name: string): boolean {
  return /^[^\\/:]+$/.test(name) && name !== "." && name !== "..";
}
