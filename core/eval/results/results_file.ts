/** Results as files. */

import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../../io/errors.ts";
import type { Results } from "./results.ts";

const fileName = "results.json";

export async function writeResults(folder: string, results: Results): Promise<void> {
  await writeFileAtomic(join(folder, fileName), `${JSON.stringify(results, null, 2)}\n`);
}

/** What a comparison reads, of quern's results or the harness's. */
const comparable = z.object({
  results: z.record(z.string(), z.record(z.string(), z.unknown())),
  group_subtasks: z.record(z.string(), z.array(z.string())).default({}),
  aggregation: z.record(z.string(), z.record(z.string(), z.string())).default({}),
  higher_is_better: z.record(z.string(), z.record(z.string(), z.boolean().nullable())).default({}),
  config: z.record(z.string(), z.unknown()).default({}),
});

export interface ReadResults extends z.output<typeof comparable> {
  /** Where they lie, and their samples. */
  readonly folder: string;
}

/** Reads a results.json, or that of a folder. */
export async function readResults(path: string): Promise<ReadResults> {
  const isFolder = await Deno.stat(path).then(({ isDirectory }) => isDirectory, () => false);
  const file = isFolder ? join(path, fileName) : path;
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(file));
  } catch (error) {
    throw new UserError(
      error instanceof Deno.errors.NotFound
        ? "there are no results"
        : error instanceof SyntaxError
        ? jsonFault(error)
        : String(error),
      {
        where: file,
        hint: "quern eval MODEL --tasks … --out FOLDER writes them",
        exitCode: exitCodes.failed,
        cause: error,
      },
    );
  }
  const { success, data } = comparable.safeParse(value);
  if (success) return { ...data, folder: isFolder ? path : join(path, "..") };
  throw new UserError("this is not a results.json of quern or the harness", {
    where: file,
    exitCode: exitCodes.failed,
  });
}
