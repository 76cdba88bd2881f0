/** The two layouts of PyTorch's files: what their pickle holds, and where the storages lie. */

import { dtypeBytes } from "../dtypes.ts";
import { exitCodes, UserError } from "../errors.ts";
import { EndOfPart, parseBeginning, type RangeFile } from "../ranges.ts";
import { broken } from "./faults.ts";
import { type Pickled, PickleFault, type PickleTable, readPickle } from "./pickle.ts";
import { type Storage, storageOf, torchTable } from "./table.ts";
import { readZipDirectory, type ZipEntry } from "./zip.ts";

const longestPickle = 32 << 20;

/** What a file holds. */
export interface Contents {
  readonly root: Pickled;
  readonly storages: ReadonlyMap<string, ZipEntry>;
}

export function readContents(file: RangeFile): Contents {
  const [p, k] = file.read(0, Math.min(2, file.bytes)), isZip = p === 0x50 && k === 0x4b;
  return isZip ? readArchive(file) : readLegacy(file);
}

function readArchive(file: RangeFile): Contents {
  const { path } = file, entries = readZipDirectory(file);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [name] = pickles;
  if (pickles.length !== 1) throw broken(path, "the archive holds no data.pkl of torch.save");
  const folder = name.slice(0, -"data.pkl".length);
  if (entries.has(`${folder}constants.pkl`)) {
    throw new UserError("a TorchScript archive, which is a program", {
      where: path,
      hint: savingHint,
      exitCode: exitCodes.failed,
    });
  }
  const order = entries.get(`${folder}byteorder`);
  if (order && order.bytes < 16) {
    const text = new TextDecoder().decode(file.read(order.begin, order.bytes));
    if (text !== "little") throw broken(path, "its numbers are big-endian");
  }
  const { begin, bytes } = entries.get(name)!;
  if (bytes > longestPickle) throw broken(path, `its pickle has ${bytes} bytes`);
  const { value } = unpickle(path, file.read(begin, bytes), 0, torchTable);
  const prefix = `${folder}data/`;
  const storages = [...entries].filter(([entry]) => entry.startsWith(prefix));
  return {
    root: value,
    storages: new Map(storages.map(([entry, place]) => [entry.slice(prefix.length), place])),
  };
}

/** What the old layout begins with, and its version. */
const legacyMagic = 0x1950a86a20f9469cfc6cn, legacyVersion = 1001;

function readLegacy(file: RangeFile): Contents {
  const { path } = file, all = new Map<string, Storage>();
  const table: PickleTable = {
    globals: torchTable.globals,
    persistent(id) {
      const storage = storageOf(id), before = all.get(storage.key) ?? storage;
      if (before.dtype !== storage.dtype || before.numbers !== storage.numbers) {
        throw new PickleFault(`storage ${storage.key} is described twice, not alike`);
      }
      all.set(storage.key, before);
      return before;
    },
  };
  const { root, keys, end } = parseBeginning(file, longestPickle, (bytes) => {
    all.clear();
    const isWhole = bytes.length === file.bytes || bytes.length >= longestPickle;
    const next = (at: number) => unpickle(path, bytes, at, table, isWhole);
    const magic = next(0);
    if (magic.value !== legacyMagic) throw broken(path, "it does not begin as torch.save's files");
    const version = next(magic.end);
    if (version.value !== legacyVersion) throw broken(path, `its version is ${version.value}`);
    const system = next(version.end);
    if (system.value instanceof Map && system.value.get("little_endian") === false) {
      throw broken(path, "its numbers are big-endian");
    }
    const root = next(system.end), keys = next(root.end);
    return { root: root.value, keys: keys.value, end: keys.end };
  });
  if (!Array.isArray(keys)) throw broken(path, "its list of storages is damaged");
  const storages = new Map<string, ZipEntry>();
  let at = end;
  for (const key of keys) {
    const storage = typeof key === "string" ? all.get(key) : undefined;
    if (!storage || storages.has(key)) throw broken(path, "its list of storages is damaged");
    const bytes = storage.numbers * dtypeBytes(storage.dtype);
    if (at + 8 + bytes > file.bytes) throw broken(path, `storage ${key} is cut short: truncated?`);
    const count = new DataView(file.read(at, 8).buffer).getBigInt64(0, true);
    if (count !== BigInt(storage.numbers)) throw broken(path, `storage ${key} has another length`);
    storages.set(key, { begin: at + 8, bytes });
    at += 8 + bytes;
  }
  if (at !== file.bytes) throw broken(path, `${file.bytes - at} bytes follow its last storage`);
  return { root, storages };
}

const savingHint =
  "save the weights alone where it comes from: torch.save(model.state_dict(), PATH), or as safetensors";

/** A pickle's faults as the user's; one that is cut is a fault where there is no more of it. */
function unpickle(
  path: string,
  bytes: Uint8Array,
  at: number,
  table: PickleTable,
  isWhole = true,
): ReturnType<typeof readPickle> {
  try {
    return readPickle(bytes, table, at);
  } catch (error) {
    if (error instanceof EndOfPart && !isWhole) throw error;
    if (!(error instanceof PickleFault) && !(error instanceof EndOfPart)) throw error;
    throw new UserError(
      `not a file of tensors alone, and nothing in it is run: ${error.message}`,
      { where: path, hint: savingHint, exitCode: exitCodes.failed },
    );
  }
}
