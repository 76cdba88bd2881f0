/** Files of JSON lines that grow while a run trains, each line of one step: metrics, samples. */

import { writeFileAtomic } from "../io/atomic.ts";
import { atPath } from "../io/errors.ts";

export type StepRecord = Readonly<Record<string, RecordValue>> & { readonly step: number };
type RecordValue =
  | string
  | number
  | readonly number[]
  | { readonly [name: string]: RecordValue };

/** Appends a line. Where that fails half way, as on a full disk, the file stays as it was. */
export function appendRecord(path: string, record: StepRecord): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(record)}\n`);
  using file = Deno.openSync(path, { append: true, create: true });
  const { size } = file.statSync();
  try {
    for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
  } catch (error) {
    file.truncateSync(size);
    throw atPath(error, path);
  }
}

/** Leaves the lines up to a step; what a kill left of a last line goes, too. */
export async function cutBack(path: string, step: number): Promise<void> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return; // somebody removed it: it begins again
    throw error;
  }
  const lines = text.split("\n").filter((line) => (stepOf(line) ?? Infinity) <= step);
  await writeFileAtomic(path, lines.map((line) => `${line}\n`).join(""));
}

/** Undefined for half a line. */
function stepOf(line: string): number | undefined {
  try {
    return (JSON.parse(line) as StepRecord).step;
  } catch {
    return undefined;
  }
}
