/** What a run's folder tells, read again and again while the run goes on. */

import { basename, join, resolve } from "node:path";
import { parse } from "yaml";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { exists } from "../io/atomic.ts";
import { seemsLocked } from "../io/lock.ts";
import { configFile, manifestFile, metricsFile, samplesFile } from "../train/run_files.ts";
import { gatherMetrics, type Metrics, recordIn } from "./records.ts";
import { followLines } from "./tail.ts";

/** A text that the run wrote. */
export interface Sample {
  readonly step: number;
  readonly prompt: string;
  readonly text: string;
  readonly seed: number | undefined;
}

export interface SavedCheckpoint {
  readonly name: string;
  readonly step: number;
  readonly bytes: number;
  readonly validationLoss: number | undefined;
}

/** A process that worked on the run, as the manifest has it. */
export interface SessionFacts {
  readonly started?: string;
  readonly from_step?: number;
  readonly version?: string;
  readonly command?: readonly string[];
  readonly device?: { readonly name?: string; readonly details?: unknown };
  readonly from?: string;
}

export interface ManifestFacts {
  readonly seed?: number;
  readonly data?: unknown;
  readonly tokenizer?: { readonly kind?: string; readonly sha256?: string };
  readonly sessions?: readonly SessionFacts[];
}

/** Whatever of a run is there. */
export interface RunData {
  /** As the caller called it. */
  readonly path: string;
  readonly name: string;
  readonly metrics: Metrics;
  readonly samples: readonly Sample[];
  readonly checkpoints: readonly SavedCheckpoint[];
  readonly configText: string | undefined;
  /** The same, read. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly manifest: ManifestFacts;
  /** "training", "done", …: for people. */
  readonly state: string;
  /** Rises when anything else of it changed. */
  readonly revision: number;
}

/** So many samples are kept, the newest. */
const mostSamples = 200;

/**
 * Reads a run: each call reads what came since the one before. Nothing need be there, and nothing is locked. `state` is what
 * the caller knows of it; left out, files tell.
 */
export function openRunReader(path: string): (state?: string) => Promise<RunData> {
  const gathered = gatherMetrics(), samples: Sample[] = [];
  const metrics = followLines(join(path, metricsFile), {
    line: gathered.add,
    restart: gathered.clear,
  });
  const texts = followLines(join(path, samplesFile), {
    line(text) {
      const sample = sampleIn(text);
      if (sample) samples.push(sample);
      if (samples.length > mostSamples) samples.shift();
    },
    restart: () => void samples.splice(0),
  });
  const config = remembered(join(path, configFile), (text) => asTable(parse(text)));
  const manifest = remembered(join(path, manifestFile), (text) => asTable(JSON.parse(text)));
  const states = new Map<string, SavedCheckpoint>();
  let revision = 0, before: readonly unknown[] = [];
  return async (state) => {
    const changed = [await metrics(), await texts()], read = gathered.metrics();
    const [told, session] = [await config(), await manifest()];
    const found = {
      checkpoints: await checkpointsIn(join(path, "checkpoints"), states),
      state: state ?? await stateOf(path, read, told?.value ?? {}),
    };
    const names = found.checkpoints.map(({ name }) => name).join();
    const now = [told, session, names, found.state];
    if (changed.includes(true) || now.some((value, i) => value !== before[i])) revision++;
    before = now;
    return {
      ...{ path, name: basename(resolve(path)), metrics: read, samples, ...found, revision },
      configText: told?.text,
      config: told?.value ?? {},
      manifest: session?.value ?? {},
    };
  };
}

function sampleIn(line: string): Sample | undefined {
  const record: Readonly<Record<string, unknown>> = recordIn(line) ?? {};
  const { step, prompt = "", text, seed } = record;
  if (typeof step !== "number" || typeof text !== "string" || typeof prompt !== "string") return;
  return { step, prompt, text, seed: typeof seed === "number" ? seed : undefined };
}

async function stateOf(
  path: string,
  { series }: Metrics,
  { steps }: RunData["config"],
): Promise<string> {
  if (await seemsLocked(path)) return "training";
  const last = series.get("loss")?.steps.at(-1);
  if (last === undefined) return await exists(path) ? "no step yet" : "not there yet";
  return typeof steps === "number" && last >= steps ? "done" : "not running";
}

/** A file's content, read anew where the file changed. Undefined where it is not there, or half of it. */
function remembered<T>(path: string, read: (text: string) => T) {
  let of = "", known: { text: string; value: T } | undefined;
  return async () => {
    const at = await Deno.stat(path).catch(absent);
    const state = at ? `${at.mtime?.getTime()} ${at.size} ${at.ino}` : "";
    if (state === of) return known;
    of = state;
    const text = at && await Deno.readTextFile(path).catch(absent);
    try {
      return known = text === undefined ? undefined : { text, value: read(text) };
    } catch (error) {
      const [message] = messageOf(error).split("\n");
      throw new UserError(message, { where: path, exitCode: exitCodes.failed });
    }
  };
}

function absent(error: unknown): undefined {
  const { NotFound, NotADirectory } = Deno.errors;
  if (!(error instanceof NotFound || error instanceof NotADirectory)) throw error;
}

function asTable(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

/** Those that are whole, by step. A checkpoint never changes, so each is read once. */
async function checkpointsIn(
  folder: string,
  known: Map<string, SavedCheckpoint>,
): Promise<SavedCheckpoint[]> {
  const found: SavedCheckpoint[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) {
      const step = Number(name.match(/^step-(\d+)$/)?.[1] ?? NaN);
      if (Number.isNaN(step)) continue;
      const one = known.get(name) ?? await checkpointAt(join(folder, name), name, step);
      if (!one) continue;
      known.set(name, one);
      found.push(one);
    }
  } catch (error) {
    absent(error);
  }
  return found.sort((a, b) => a.step - b.step);
}

async function checkpointAt(
  path: string,
  name: string,
  step: number,
): Promise<SavedCheckpoint | undefined> {
  const text = await Deno.readTextFile(join(path, "state.json")).catch(absent);
  if (text === undefined) return undefined;
  const { files, validation_loss: loss } = asTable(JSON.parse(text));
  const sizes = Object.values(asTable(files)).map((file) => Number(asTable(file).bytes));
  return {
    name,
    step,
    bytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
    validationLoss: typeof loss === "number" ? loss : undefined,
  };
}
