/** The weights of a published checkpoint: a safetensors file, or several that an index joins. */

import { dirname, extname, join } from "node:path";
import { unpackHalves } from "../graph/mod.ts";
import { exists } from "../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../io/errors.ts";
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorData,
  type TensorInfo,
} from "../io/safetensors.ts";
import { shellWord } from "../io/words.ts";

/** Open tensors by name; close them with `using`. */
export interface Weights extends Disposable {
  readonly where: string;
  readonly files: readonly string[];
  /** What stands before the names in the files is left out here: see `wrappers`. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** A tensor's numbers as f32; what is not finite is refused. The last one read is kept. */
  read(name: string): Float32Array;
  /** The same of those from element `at` on, as many as `into` holds, which is not kept. */
  readInto(name: string, into: Float32Array, at: number): void;
}

const indexName = "model.safetensors.index.json", fileName = "model.safetensors";
const pickles = [".bin", ".ckpt", ".pt", ".pth", ".pkl"];

/** What frameworks put before the names of a model that they wrap. */
const wrappers = /^(?:module\.|_orig_mod\.|model\.)+/;

/** Opens a file, an index, or what a folder holds; headers are read and checked, numbers are not. */
export async function openWeights(path: string): Promise<Weights> {
  const files = await filesOf(path);
  using stack = new DisposableStack();
  const places = new Map<string, { file: SafetensorsFile; name: string }>();
  for (const file of files) {
    const opened = stack.use(openSafetensors(file));
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
    data: Float32Array,
    { file, name }: { file: SafetensorsFile; name: string },
  ) => {
    if (isFiniteAll(data)) return;
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
    read(plain) {
      if (last?.name === plain) return last.data;
      const { file, name } = places.get(plain)!;
      const data = asF32(file.read(name), file.tensors.get(name)!);
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
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Numbers that are looked at while the processor still has them. */
const looked = 2 ** 18;

function twice(name: string, file: string, other: { file: SafetensorsFile; name: string }) {
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

function asF32(data: TensorData, { dtype }: TensorInfo): Float32Array {
  if (data instanceof Float32Array) return data;
  if (dtype === "BF16" && data instanceof Uint16Array) {
    const words = new Uint32Array(Math.ceil(data.length / 2));
    new Uint16Array(words.buffer).set(data);
    return unpackHalves("bf16", words, data.length);
  }
  return Float32Array.from(data as Float64Array);
}

/** The files that a path means. */
async function filesOf(path: string): Promise<string[]> {
  const info = await Deno.stat(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UserError("there is no such file or folder", { where: path });
  });
  if (!info.isDirectory) {
    await refusePickle(path);
    return extname(path) === ".json" ? await indexedFiles(path) : [path];
  }
  if (await exists(join(path, indexName))) return await indexedFiles(join(path, indexName));
  if (await exists(join(path, fileName))) return [join(path, fileName)];
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).toSorted();
  const own = names.filter((name) => extname(name) === ".safetensors");
  if (own.length === 1) return [join(path, own[0])];
  if (own.length > 1) {
    throw new UserError(`several safetensors files and no ${indexName} that joins them`, {
      where: path,
      hint: "name one of them, or fetch the index, too",
    });
  }
  const pickle = names.find((name) => pickles.includes(extname(name)));
  if (pickle) await refusePickle(join(path, pickle));
  throw new UserError("it holds no safetensors file", { where: path });
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
    Object.values(map).every((name) => typeof name === "string" && /^[^\\/]+$/.test(name));
  if (!isMap) {
    throw new UserError(
      "not an index of safetensors files: weight_map is to name a file for each",
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
    using file = openSafetensors(join(folder, name));
    const [gone] = entries.find(([key, of]) => of === name && !file.tensors.has(key)) ?? [];
    if (gone === undefined) continue;
    throw new UserError(`${gone} is not in ${name}, where it is said to be`, {
      where: path,
      exitCode: exitCodes.failed,
    });
  }
  return names.map((name) => join(folder, name));
}

/** PyTorch's own format is a program that makes the tensors: it is not run. */
async function refusePickle(path: string): Promise<void> {
  using file = await Deno.open(path);
  const head = new Uint8Array(4);
  await file.read(head);
  const isZip = head[0] === 0x50 && head[1] === 0x4b, isPickle = head[0] === 0x80 && head[1] < 6;
  if (!isZip && !(isPickle && pickles.includes(extname(path)))) return;
  const target = path.slice(0, path.length - extname(path).length) + ".safetensors";
  const script = "import sys, torch, safetensors.torch as s; " +
    "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); " +
    "s.save_file({k: v.clone().contiguous() for k, v in d.items()}, sys.argv[2])";
  throw new UserError("a PyTorch pickle, which can run anything when it is opened", {
    where: path,
    hint: `convert it: python -c "${script}" ${shellWord(path)} ${shellWord(target)}`,
  });
}
