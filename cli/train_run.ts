/**
 * A run that trains, whatever on: opened, said what it is, trained, and told how it goes on.
 *
 * @module
 */
import { exitCodes, UserError } from "../core/io/errors.ts";
import type {
  AnyConfig,
  BatchSizes,
  FirstWeights,
  PlannedConfig,
  TrainingData,
} from "../core/train/mod.ts";
import { type DeviceChoice, openChosenDevice } from "./device_options.ts";
import { printDryRun } from "./train_dry_run.ts";
import { type Conversation, showTraining } from "./train_progress.ts";
import {
  type DataFacts,
  requireWithin,
  type Resolved,
  resolveWithin,
  type RunMemory,
} from "./run_memory.ts";
import {
  type BeginningAt,
  beginningOf,
  type ConfigReading,
  loadStart,
  lookAt,
  type Start,
} from "./train_start.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { version } from "./version.ts";

/** What is known of a run before there is a device. */
export interface Looked extends AsyncDisposable {
  readonly facts: DataFacts;
  /** The config with nothing left open; `sizes` where those are `auto`. */
  resolve(sizes?: BatchSizes): PlannedConfig;
  /** What was decided, and what may not be meant so. */
  notes(resolved: Resolved<PlannedConfig>): Promise<string[]>;
}

/** All that a run needs but a device. */
export interface Opened extends Looked {
  readonly from: FirstWeights | undefined;
  data(config: PlannedConfig): TrainingData;
  /** What else the user may want to know. */
  readonly remarks: readonly string[];
}

export interface Opening {
  readonly start: Start;
  readonly at: BeginningAt;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal | undefined;
}

/** What a command that trains brings. */
export interface TrainVerb<C extends AnyConfig> extends ConfigReading<C> {
  open(config: C, opening: Opening): Promise<Opened>;
  /** For a dry run, which writes nothing into the run's folder. */
  look(config: C, opening: Opening): Promise<Looked>;
  /** The override that makes a run which is done go on. */
  more(config: C, step: number): string;
}

/** Trains, and shows it as asked. Returns the run folder. */
export async function trainWith<C extends AnyConfig>(
  verb: TrainVerb<C>,
  start: Start,
  choice: DeviceChoice & RunMemory,
  conversation: Conversation,
): Promise<string> {
  const { diskShortage, requireNew, resumeCommand } = await import("../core/train/mod.ts");
  const say = (line: string) => conversation.quiet || conversation.json || console.error(line);
  using interruption = listenForInterrupt("interrupted");
  using beginning = await beginningOf(start);
  const { run } = beginning, given = await loadStart(start, beginning, { ...verb, say });
  if (start.kind === "new") await requireNew(run); // before anything is said of it
  const { signal } = interruption;
  await using opened = await verb.open(given, { start, at: beginning, say, signal });
  const { facts, from } = opened;
  if (from) say(`begins with the weights of ${from.checkpoint}`);
  await using device = await openChosenDevice(choice);
  const { target } = device, { memory } = choice, resolve = opened.resolve.bind(opened);
  const resolved = await resolveWithin(given, { target, device, data: facts, resolve, memory });
  const { config } = resolved;
  await requireWithin(config, target, memory);
  for (const line of await opened.notes(resolved)) say(line);
  const shortage = await diskShortage(config, run);
  if (shortage) say(`warning: ${shortage.message}; ${shortage.hint}`);
  for (const line of opened.remarks) say(line);
  const job = {
    config,
    data: opened.data(config),
    device,
    beginning,
    from,
    session: { version, command: ["quern", ...Deno.args] },
    signal,
  };
  const { reason, step } = await showTraining(job, conversation);
  const resume = resumeCommand(config, run);
  if (reason === "interrupted") {
    throw new UserError(`interrupted after step ${step}; everything is saved`, {
      hint: `go on with: ${resume}`,
      exitCode: exitCodes.interrupted,
    });
  }
  if (reason === "finished") say(`for more: ${resume} --set ${verb.more(given, step)}`);
  return run;
}

/** Says what a run would take. */
export async function lookWith<C extends AnyConfig>(
  verb: TrainVerb<C>,
  start: Start,
  choice: DeviceChoice & RunMemory & { readonly json: boolean; readonly quiet: boolean },
): Promise<void> {
  const say = (line: string) => choice.json || choice.quiet || console.error(line);
  const at = await lookAt(start), given = await loadStart(start, at, { ...verb, say });
  await using looked = await verb.look(given, { start, at, say, signal: undefined });
  await printDryRun({ given, looked, run: at.run }, {
    ...choice,
    form: choice.json ? "json" : "text",
  });
}
