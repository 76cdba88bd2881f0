/** What samples were made with, so that others do not join them. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../../io/errors.ts";
import type { Tensors } from "../../io/tensors.ts";

export function settingsPath(folder: string): string {
  return join(folder, "settings.json");
}

const schema = z.strictObject({
  format: z.literal("quern-eval"),
  version: z.literal(1),
  /** Of the weights by their names. */
  model_sha256: z.string(),
  tokenizer_sha256: z.string(),
  device: z.string(),
  tokenization: z.string(),
  chat_template: z.string().nullable(),
  batch: z.int().nullable(),
  sharing: z.string(),
  /** Of each task's questions. */
  tasks: z.record(z.string(), z.string()),
});

export type RecordedSettings = Omit<z.output<typeof schema>, "format" | "version" | "tasks">;

export interface SettingsFile {
  /** Refuses a task that was asked otherwise; notes one that is new. */
  join(task: string, hash: string): Promise<void>;
}

/** Opens the folder of an evaluation; one that was begun with other settings is refused. */
export async function openSettings(
  folder: string,
  settings: RecordedSettings,
): Promise<SettingsFile> {
  await Deno.mkdir(folder, { recursive: true });
  const path = settingsPath(folder), found = await readSettings(path);
  const tasks = { ...found?.tasks };
  if (found) {
    for (const [name, value] of Object.entries(settings)) {
      const before = found[name as keyof RecordedSettings];
      if (before !== value) throw other(`${name} was ${shown(before)}, is ${shown(value)}`, folder);
    }
  }
  const write = () =>
    writeFileAtomic(
      path,
      `${JSON.stringify({ format: "quern-eval", version: 1, ...settings, tasks }, null, 2)}\n`,
    );
  return {
    async join(task, hash) {
      if (tasks[task] === hash) return;
      if (tasks[task] !== undefined) {
        throw other(`${task} was asked otherwise (its data, shots, limit or texts)`, folder);
      }
      tasks[task] = hash;
      await write();
    },
  };
}

async function readSettings(path: string): Promise<z.output<typeof schema> | undefined> {
  const text = await Deno.readTextFile(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(jsonFault(error), { where: path, exitCode: exitCodes.failed });
  }
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  throw new UserError(`not an evaluation's settings: ${z.prettifyError(error)}`, {
    where: path,
    exitCode: exitCodes.failed,
  });
}

const shown = (value: unknown) =>
  typeof value === "string" && value.length > 20 ? `${value.slice(0, 12)}…` : String(value);

function other(what: string, where: string): UserError {
  return new UserError(`samples there were made with other settings: ${what}`, {
    where,
    hint: "choose another --out, or begin anew with --overwrite",
    exitCode: exitCodes.failed,
  });
}

/** Of all names, shapes and values. */
export function weightsHash(file: Tensors): string {
  const hash = createHash("sha256");
  for (const [name, { dtype, shape }] of [...file.tensors].sort(([a], [b]) => a < b ? -1 : 1)) {
    const values = file.read(name);
    hash.update(JSON.stringify([name, dtype, shape]));
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}
