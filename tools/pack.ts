/**
 * Packs quern into one executable file, which needs neither Deno nor these sources:
 * `deno task pack [--out FILE] [--level 1..9]`.
 *
 * It is a shell script (`launcher.sh`) with a gzipped tar behind it: the bundled program and the Deno
 * that runs this file. On a system's own: sh, uname, mkdir, mktemp, tail, gzip, tar, mv, rm.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import project from "../deno.json" with { type: "json" };
import launcher from "./launcher.sh" with { type: "text" };

const root = fileURLToPath(new URL("../", import.meta.url));

interface TarFile {
  name: string;
  bytes: Uint8Array;
  executable?: boolean;
}

/** A tar of plain files in POSIX' ustar form, the same bytes for the same files at any time. */
function makeTar(files: readonly TarFile[]): Uint8Array<ArrayBuffer> {
  const block = 512;
  const padded = (size: number) => Math.ceil(size / block) * block;
  const total = files.reduce((sum, { bytes }) => sum + block + padded(bytes.length), 2 * block);
  const tar = new Uint8Array(padded(total)); // ends with two empty blocks
  let at = 0;
  for (const file of files) {
    tar.set(tarHeader(file), at);
    tar.set(file.bytes, at + block);
    at += block + padded(file.bytes.length);
  }
  return tar;
}

function tarHeader({ name, bytes, executable = false }: TarFile): Uint8Array {
  const header = new Uint8Array(512);
  const put = (at: number, text: string) => header.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0") + "\0";
  if (new TextEncoder().encode(name).length > 100) throw new Error(`${name} is too long for a tar`);
  put(0, name);
  put(100, octal(executable ? 0o755 : 0o644, 7));
  put(108, octal(0, 7)); // user and group: whoever unpacks
  put(116, octal(0, 7));
  put(124, octal(bytes.length, 11));
  put(136, octal(0, 11)); // time
  put(148, " ".repeat(8)); // the checksum counts itself as spaces
  put(156, "0"); // a plain file
  put(257, "ustar\x0000");
  put(148, octal(header.reduce((sum, byte) => sum + byte, 0), 6) + " ");
  return header;
}

/** The program, bundled into a few files: the first that is read is `app/main.js`. */
async function bundle(): Promise<TarFile[]> {
  const dir = await Deno.makeTempDir({ prefix: "quern-pack-" });
  try {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["bundle", "--quiet", "--minify", "--code-splitting", "--outdir", dir, "cli/main.ts"],
      cwd: root, // where the import map is
    }).output();
    if (code !== 0) throw new Error(`deno bundle failed:\n${new TextDecoder().decode(stderr)}`);
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    return names.map((name) => ({
      name: `app/${name}`,
      bytes: Deno.readFileSync(join(dir, name)),
    }));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The script that comes first: it knows its own length, the payload's hash and the system. */
function makeLauncher(hash: string): Uint8Array {
  const system = { x86_64: "Linux x86_64", aarch64: "Linux aarch64" }[Deno.build.arch];
  const text = launcher.replaceAll("@version@", project.version)
    .replaceAll("@hash@", hash)
    .replaceAll("@system@", system);
  const [before, after] = text.split("@start@");
  const start = String(before.length + "0000".length + after.length + 1); // tail counts from 1
  if (start.length !== 4) throw new Error("the launcher's length no longer has four digits");
  return new TextEncoder().encode(before + start + after);
}

/** Writes the packed file, whole or not at all; returns its size in bytes. */
async function pack(out: string, level: number): Promise<number> {
  const tar = makeTar([
    { name: "deno", bytes: await Deno.readFile(Deno.execPath()), executable: true },
    { name: "LICENSE", bytes: await Deno.readFile(join(root, "LICENSE")) },
    ...await bundle(),
  ]);
  const hash = createHash("sha256").update(tar).digest("hex").slice(0, 16);
  const parts = [makeLauncher(hash), gzipSync(tar, { level })];
  await Deno.mkdir(dirname(out), { recursive: true });
  const unfinished = join(dirname(out), `.${basename(out)}-${Deno.pid}`);
  try {
    await Deno.writeFile(unfinished, ReadableStream.from(parts), { mode: 0o755 });
    await Deno.rename(unfinished, out);
  } catch (error) {
    await Deno.remove(unfinished).catch(() => {});
    throw error;
  }
  return parts.reduce((sum, { length }) => sum + length, 0);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: join(root, "dist/quern") },
      level: { type: "string", default: "9" },
    },
  });
  if (!/^[1-9]$/.test(values.level)) throw new Error("--level is gzip's: 1 to 9");
  if (Deno.build.os !== "linux") {
    throw new Error(`packing is for Linux; on ${Deno.build.os} use deno task compile`);
  }
  const out = resolve(values.out);
  const size = await pack(out, Number(values.level));
  console.log(`${out}: ${(size / 1e6).toFixed(1)} MB`);
}

try {
  await main();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  Deno.exit(1);
}
