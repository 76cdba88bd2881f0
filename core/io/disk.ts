/** How much room a disk has. */

import { statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { exists } from "./atomic.ts";

/** Bytes that may be written at a path that need not exist yet; undefined where the system does not say. */
export async function freeBytesAt(path: string): Promise<number | undefined> {
  let at = resolve(path);
  while (!await exists(at) && dirname(at) !== at) at = dirname(at);
  try {
    const { bavail, bsize } = statfsSync(at);
    return bavail * bsize;
  } catch {
    return undefined; // no such call on this system, or not allowed to ask
  }
}

/** Bytes of all files in a folder and its folders; 0 if it does not exist. */
export async function bytesInside(folder: string): Promise<number> {
  if (!await exists(folder)) return 0;
  let bytes = 0;
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = resolve(folder, name);
    bytes += isDirectory ? await bytesInside(path) : (await Deno.lstat(path)).size;
  }
  return bytes;
}
