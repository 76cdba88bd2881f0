/** Damaged files are opened one after the other: each loads, or is refused by a clear error, in little time and memory. */

import { join } from "node:path";
import { UserError } from "../../core/io/errors.ts";
import { fileFormats, type Format } from "./file_formats.ts";
import { damaged, pick, type Random, randomFrom } from "./mutations.ts";

export interface DamagingOptions {
  /** Files of each format. */
  readonly files: number;
  readonly seed: number;
  readonly say?: (line: string) => void;
}

/** What became of a format's files. */
export interface Met {
  readonly format: string;
  readonly loaded: number;
  readonly refused: number;
  /** Kinds of messages, numbers and quoted texts apart. */
  readonly messages: number;
  readonly slowestMs: number;
  /** The most memory of buffers after a file, beyond that before all. */
  readonly mostBytes: number;
}

/** Far beyond what a good file of some kilobytes takes, also on a busy machine. */
const longestMs = 10_000, mostBytes = 256 * 2 ** 20;

/** Throws at the first file that ends in another error, or takes too much; it is left in `dir`. */
export async function damageMany(dir: string, options: DamagingOptions): Promise<Met[]> {
  const { files, seed, say = () => {} } = options, met: Met[] = [];
  for (const format of await fileFormats(dir)) {
    for (const bytes of format.good) await openOne(dir, format, bytes);
    met.push(await damageOne(dir, format, files, randomFrom(seed)));
    say(lineOf(met.at(-1)!));
  }
  return met;
}

export function lineOf({ format, loaded, refused, messages, slowestMs, mostBytes }: Met): string {
  return `${format}: ${loaded} loaded, ${refused} refused with ${messages} kinds of messages, ` +
    `the slowest in ${slowestMs.toFixed(0)} ms, at most ${(mostBytes / 2 ** 20).toFixed(0)} MiB`;
}

async function damageOne(dir: string, format: Format, files: number, random: Random): Promise<Met> {
  const messages = new Set<string>(), before = buffers();
  let loaded = 0, slowestMs = 0, most = 0;
  for (let i = 0; i < files; i++) {
    const bytes = i % 2 === 0 ? damaged(pick(random, format.good), random) : format.within(random);
    const began = performance.now();
    const error = await openOne(dir, format, bytes).catch((error) => error ?? "nothing");
    const took = performance.now() - began, taken = buffers() - before;
    if (error === undefined) loaded++;
    else if (error instanceof UserError && error.message !== "") {
      messages.add(error.message.replaceAll(/\d+|"[^"]*"|\[[^\]]*\]/g, "#").slice(0, 60));
    } else throw failure(dir, format, i, error);
    if (took > longestMs) throw failure(dir, format, i, `it took ${took} ms`);
    if (taken > mostBytes) throw failure(dir, format, i, `it took ${taken} bytes`);
    slowestMs = Math.max(slowestMs, took);
    most = Math.max(most, taken);
  }
  const refused = files - loaded;
  return {
    format: format.name,
    loaded,
    refused,
    messages: messages.size,
    slowestMs,
    mostBytes: most,
  };
}

async function openOne(dir: string, format: Format, bytes: Uint8Array): Promise<void> {
  const path = pathOf(dir, format);
  await Deno.writeFile(path, bytes);
  await format.open(path);
}

const pathOf = (dir: string, { name }: Format) => join(dir, `damaged.${name}`);

function buffers(): number {
  const { external, heapUsed } = Deno.memoryUsage();
  return external + heapUsed;
}

function failure(dir: string, format: Format, number: number, cause: unknown): Error {
  const path = pathOf(dir, format);
  return new Error(`${format.name}, file ${number} (${path}): ${cause}`, { cause });
}
