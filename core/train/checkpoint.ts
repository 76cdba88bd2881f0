/**
 * Checkpoints: `checkpoints/step-N/` with `model.safetensors`, `optimizer.safetensors`, averages of the weights where they
 * are kept (`ema.safetensors`, `swa.safetensors`) and `state.json`, whole or not there; the file `checkpoints/latest` names the one to go on from, `checkpoints/best` that of the lowest validation
 * loss where such are kept. Optimizer state is keyed by parameter path.
 */

import { createHash } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import type { Cursor } from "../data/batches.ts";
import type { ConversationCursor } from "../data/conversation_rows.ts";
import type { MixtureCursor } from "../data/mixture.ts";
import { exists, replaceFolder, writeFileAtomic } from "../io/atomic.ts";
import { exitCodes, jsonFault, messageOf, UserError } from "../io/errors.ts";
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../io/safetensors.ts";
import { shellWord } from "../io/words.ts";
import { type AverageKind, averageKinds } from "../optim/mod.ts";
import { patienceSchema } from "./early_stop.ts";

const index = z.int().min(0);
const cursorSchema = z.discriminatedUnion("packing", [
  z.strictObject({ packing: z.literal("windows"), window: z.int().min(0) }),
  z.strictObject({ packing: z.literal("stream"), token: z.int().min(0) }),
  z.strictObject({
    packing: z.literal("documents"),
    epoch: z.int().min(0),
    document: z.int().min(0),
    offset: z.int().min(0),
  }),
  z.strictObject({ packing: z.literal("packed"), length: index, epoch: index, row: index }),
  z.strictObject({
    packing: z.literal("buckets"),
    lengths: z.array(index).readonly(),
    epoch: index,
    taken: z.array(index).readonly(),
  }),
]) satisfies z.ZodType<Cursor | ConversationCursor>;

const mixtureSchema = z.strictObject({
  sources: z.array(z.strictObject({
    credit: z.number(),
    tokens: z.int().min(0),
    cursor: cursorSchema,
  })).min(1).readonly(),
}) satisfies z.ZodType<MixtureCursor<Cursor | ConversationCursor>>;

const commonState = {
  format: z.literal("quern-checkpoint"),
  version: z.literal(1),
  /** Updates done. */
  step: z.int().min(0),
  /** Names the tokenizer that ids belong to. */
  tokenizer_sha256: z.string(),
  files: z.record(z.string(), z.strictObject({ bytes: z.int(), sha256: z.string() })),
};

const stateSchema = z.strictObject({
  ...commonState,
  /** Targets trained on. */
  tokens: z.int().min(0),
  /** Where the data go on. */
  cursor: z.union([cursorSchema, mixtureSchema]),
  /** Nats a token, where it was measured at this step. */
  validation_loss: z.number().optional(),
  /** Where the run may end early. */
  patience: patienceSchema.optional(),
  /** Names the data, each source of a mixture, that the cursor belongs to. */
  data_sha256: z.union([
    z.string(),
    z.array(z.strictObject({ path: z.string(), sha256: z.string() })).min(1).readonly(),
  ]),
});

/** `state.json` of a checkpoint. */
export type CheckpointState = z.output<typeof stateSchema>;

/** Of weights that came from elsewhere: no training can go on from them. */
const weightsSchema = z.strictObject({
  ...commonState,
  imported: z.strictObject({ from: z.string(), format: z.string() }),
});
type WeightsState = z.output<typeof weightsSchema>;

/** What the trainer knows of the state; the files' hashes are added when they are written. */
export type Progress = Omit<CheckpointState, "format" | "version" | "files">;

export const modelFile = "model.safetensors", optimizerFile = "optimizer.safetensors";
/** The file of an average: named as the weights' own. */
export const averageFile = (kind: AverageKind) => `${kind}.safetensors`;
export const latestFile = "latest";
const stateFile = "state.json";

export function checkpointsFolder(run: string): string {
  return join(run, "checkpoints");
}

export interface CheckpointTensors {
  readonly model: readonly TensorSource[];
  readonly optimizer: readonly TensorSource[];
  readonly averages?: Readonly<Partial<Record<AverageKind, readonly TensorSource[]>>>;
}

/** Writes a checkpoint and moves the pointer to it. Returns its folder. */
export async function saveCheckpoint(
  run: string,
  progress: Progress,
  { model, optimizer, averages = {} }: CheckpointTensors,
): Promise<string> {
  return await saveFiles(run, progress, [
    [modelFile, model],
    [optimizerFile, optimizer],
    ...Object.entries(averages)
      .map(([kind, sources]) => [averageFile(kind as AverageKind), sources] as const),
  ]);
}

/** The same of weights alone, that came from elsewhere. */
export async function saveWeights(
  run: string,
  state: Omit<WeightsState, "format" | "version" | "files">,
  model: readonly TensorSource[],
): Promise<string> {
  return await saveFiles(run, state, [[modelFile, model]]);
}

async function saveFiles(
  run: string,
  state: { readonly step: number },
  contents: readonly (readonly [file: string, tensors: readonly TensorSource[]])[],
): Promise<string> {
  const folder = checkpointsFolder(run), name = checkpointName(state.step);
  const path = join(folder, name);
  await replaceFolder(path, async (temporary) => {
    const files: CheckpointState["files"] = {};
    for (const [file, sources] of contents) {
      await writeSafetensors(join(temporary, file), sources);
      files[file] = await fingerprint(join(temporary, file));
    }
    const whole = { format: "quern-checkpoint", version: 1, ...state, files };
    await Deno.writeTextFile(join(temporary, stateFile), `${JSON.stringify(whole, null, 2)}\n`);
  });
  await writeFileAtomic(join(folder, latestFile), `${name}\n`);
  return path;
}

/** What a step's checkpoint is called. */
export const checkpointName = (step: number) => `step-${step}`;

/** The steps of the complete checkpoints in a folder, oldest first. */
export async function savedSteps(folder: string): Promise<number[]> {
  const steps: number[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const step = name.match(/^step-(\d+)$/)?.[1];
    if (step !== undefined) steps.push(Number(step));
  }
  return steps.sort((a, b) => a - b);
}

/** An opened checkpoint whose files are what they were when they were written. */
export interface Checkpoint extends Disposable {
  readonly path: string;
  readonly state: CheckpointState;
  readonly model: SafetensorsFile;
  readonly optimizer: SafetensorsFile;
  readonly averages: Readonly<Partial<Record<AverageKind, SafetensorsFile>>>;
}

/** Whether a run can go on from somewhere. */
export async function hasCheckpoint(run: string): Promise<boolean> {
  return await exists(join(checkpointsFolder(run), latestFile));
}

/** The checkpoint that a run folder goes on from, if it has one: a kill may have come before the pointer to the first. */
export async function newestCheckpoint(run: string): Promise<string | undefined> {
  if (await hasCheckpoint(run)) return await findCheckpoint(run);
  const folder = checkpointsFolder(run);
  const newest = await exists(folder) ? (await savedSteps(folder)).at(-1) : undefined;
  return newest === undefined ? undefined : join(folder, checkpointName(newest));
}

/** Whether a folder is a checkpoint. */
export async function isCheckpoint(path: string): Promise<boolean> {
  return await exists(join(path, stateFile));
}

/** The checkpoint folder that `path` means: itself, or the latest of a run folder. */
export async function findCheckpoint(path: string): Promise<string> {
  if (await isCheckpoint(path)) return path;
  const folder = checkpointsFolder(path), pointer = join(folder, latestFile);
  if (await exists(pointer)) return join(folder, (await Deno.readTextFile(pointer)).trim());
  const config = join(path, "config.yaml");
  if (!await exists(config)) {
    throw new UserError(
      await exists(path) ? "neither a run folder nor a checkpoint" : "there is no such folder",
      {
        where: path,
        hint: "give the folder that quern pretrain wrote, or one of its checkpoints/",
      },
    );
  }
  const newest = await exists(folder) ? (await savedSteps(folder)).at(-1) : undefined;
  throw newest === undefined
    ? new UserError("the run has no checkpoint yet", {
      where: path,
      hint: `it can be started over: quern pretrain ${shellWord(config)} --out ${
        shellWord(path)
      } --resume auto`,
      exitCode: exitCodes.failed,
    })
    : new UserError(`the file ${latestFile}, which names the checkpoint to take, is missing`, {
      where: folder,
      hint: `name one yourself: ${shellWord(join(folder, `step-${newest}`))}`,
      exitCode: exitCodes.failed,
    });
}

/** Opens a checkpoint and holds sizes and hashes of its files against `state.json`. */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const state = await readState(path);
  using stack = new DisposableStack();
  const model = stack.use(await openVerified(path, modelFile, state));
  const optimizer = stack.use(await openVerified(path, optimizerFile, state));
  const averages: Partial<Record<AverageKind, SafetensorsFile>> = {};
  for (const kind of averageKinds) {
    const file = averageFile(kind);
    if (state.files[file]) averages[kind] = stack.use(await openVerified(path, file, state));
  }
  const owned = stack.move();
  return { path, state, model, optimizer, averages, [Symbol.dispose]: () => owned.dispose() };
}

/** A checkpoint's weights alone, or an average of them. */
export async function openModelFile(
  path: string,
  average?: AverageKind,
): Promise<{ state: CheckpointState | WeightsState; file: SafetensorsFile }> {
  const state = await readAnyState(path);
  if (average === undefined) return { state, file: await openVerified(path, modelFile, state) };
  const name = averageFile(average);
  if (state.files[name]) return { state, file: await openVerified(path, name, state) };
  const kept = averageKinds.filter((kind) => state.files[averageFile(kind)]);
  throw new UserError(`the checkpoint has no ${average} of the weights`, {
    where: path,
    hint: kept.length > 0
      ? `it has: ${kept.join(", ")}`
      : "averages are kept where the run's config asks for them (averages)",
  });
}

async function openVerified(
  folder: string,
  file: string,
  { files }: Pick<CheckpointState, "files">,
): Promise<SafetensorsFile> {
  const path = join(folder, file), written = files[file];
  const found = await fingerprint(path).catch(async (error) => {
    throw await damagedError(messageOf(error), path, folder, error);
  });
  const damaged = (what: string) => damagedError(what, path, folder);
  if (!written) throw await damaged("state.json does not name it");
  if (found.bytes !== written.bytes) {
    throw await damaged(`has ${found.bytes} bytes, but ${written.bytes} were written`);
  }
  if (found.sha256 !== written.sha256) {
    throw await damaged("its contents changed since it was written");
  }
  return openSafetensors(path);
}

/** Names the newest of the run's other checkpoints, if it has one. */
async function damagedError(
  what: string,
  where: string,
  checkpoint: string,
  cause?: unknown,
): Promise<UserError> {
  const folder = dirname(checkpoint), steps = await exists(folder) ? await savedSteps(folder) : [];
  const other = steps.findLast((step) => checkpointName(step) !== basename(checkpoint));
  const instead = other === undefined
    ? "its run has no other"
    : `use another: ${shellWord(join(folder, checkpointName(other)))}`;
  return new UserError(what, {
    where,
    hint: `the checkpoint is damaged; ${instead}`,
    exitCode: exitCodes.failed,
    cause,
  });
}

/** A checkpoint's `state.json`; that of imported weights is refused. */
export async function readState(path: string): Promise<CheckpointState> {
  const state = await readAnyState(path);
  if ("imported" in state) throw importedError(path);
  return state;
}

/** Refuses imported weights before anything else is looked at; what is broken is said by who opens it. */
export async function refuseImported(path: string): Promise<void> {
  const state = await readAnyState(path).catch((error) => {
    if (error instanceof UserError) return undefined;
    throw error;
  });
  if (state && "imported" in state) throw importedError(path);
}

function importedError(path: string): UserError {
  return new UserError(
    "imported weights have no optimizer's state and no place in the data to go on from",
    { where: path, hint: `begin a run with them: quern pretrain CONFIG --from ${shellWord(path)}` },
  );
}

async function readAnyState(path: string): Promise<CheckpointState | WeightsState> {
  const where = join(path, stateFile);
  const broken = (what: string, cause?: unknown) => damagedError(what, where, path, cause);
  let text: string;
  try {
    text = await Deno.readTextFile(where);
  } catch (error) {
    throw await broken(messageOf(error), error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw await broken(jsonFault(error), error);
  }
  const isImported = typeof value === "object" && value !== null && "imported" in value;
  const parsed = (isImported ? weightsSchema : stateSchema).safeParse(value);
  if (!parsed.success) {
    throw await broken(`not a checkpoint's state: ${z.prettifyError(parsed.error)}`, parsed.error);
  }
  return parsed.data;
}

async function fingerprint(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  const file = await Deno.open(path);
  for await (const chunk of file.readable) { // the end of the stream closes the file
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}
