/**
 * Where a run that trains begins, as the command line says it: anew, from a checkpoint, or wherever it stands.
 *
 * @module
 */
import { basename, join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import type { AnyConfig, Beginning } from "../core/train/mod.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import { logOption, logOverrides } from "./log_option.ts";
import { parsePath, seedOption } from "./options.ts";
import { memoryOption } from "./run_memory.ts";
import { averageOption } from "./weights_options.ts";

/** The options that every command which trains has. */
export function trainCommand(name: string, from: string) {
  return new Command(name)
    .argument("[config]", "YAML file, or a name of quern config list; left out with --resume")
    .option("--out <folder>", "run folder (default: runs/ and the config's name)", parsePath)
    .option(
      "--resume <run>",
      "go on with a run folder, or from one of its checkpoints; auto: with CONFIG's run, if it has any",
      parsePath,
    )
    .option("--from <path>", from, parsePath)
    .addOption(averageOption("--from: an average of those weights"))
    .addOption(
      new Option("--set <path=value>", "override a field of the config; repeatable")
        .argParser((value: string, before: string[] | undefined) => [...before ?? [], value]),
    )
    .addOption(logOption())
    .option("--dry-run", "say what it would take, and do nothing", false)
    .addOption(deviceOption())
    .addOption(memoryOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .addOption(seedOption())
    .option("--json", "one JSON object a line for everything that happens", false)
    .option("--quiet", "say nothing but errors", false);
}

/** What the command line says of where a run begins. */
export type Start =
  & {
    readonly overrides: readonly string[];
    /** QUERN_SEED: of new runs. A run has its seed; what the shell says does not matter to it. */
    readonly shellSeed?: number | undefined;
  }
  & (
    | {
      readonly kind: "new";
      readonly config: string;
      readonly out?: string | undefined;
      readonly weights?: FromWeights | undefined;
    }
    | {
      readonly kind: "auto";
      readonly config: string | undefined;
      readonly out: string | undefined;
      readonly weights: FromWeights | undefined;
    }
    | { readonly kind: "resume"; readonly path: string }
  );

/** The model that a run begins with: a run, a checkpoint or a folder. */
export interface FromWeights {
  readonly path: string;
  readonly average: "ema" | "swa" | undefined;
}

function weightsIn({ from, average }: StartOptions): FromWeights | undefined {
  if (from !== undefined) return { path: from, average };
  if (average === undefined) return undefined;
  throw new UserError(`--average ${average} is of the weights that --from names`, {
    hint: "give --from RUN, too",
  });
}

/** The options that decide it. */
export interface StartOptions {
  readonly resume?: string | undefined;
  readonly out?: string | undefined;
  readonly from?: string | undefined;
  readonly average?: FromWeights["average"];
  readonly log?: "tensorboard" | undefined;
  readonly set?: readonly string[] | undefined;
  readonly seed?: number | undefined;
}

/** `example`: of a command line that begins a run. */
export function startOf(
  config: string | undefined,
  options: StartOptions,
  { command, example }: { readonly command: CommandUnknownOpts; readonly example: string },
): Start {
  const { resume, out, seed } = options, weights = weightsIn(options);
  const set = [...options.set ?? [], ...logOverrides(options.log)];
  const isFromShell = command.getOptionValueSource("seed") === "env";
  const overrides = isFromShell ? set : withSeed(set, seed, "flag");
  const from = { overrides, shellSeed: isFromShell ? seed : undefined };
  const requireConfig = () => {
    if (config !== undefined) return config;
    throw new UserError("no config is given", {
      hint: `for example: ${example}; or --resume RUN`,
    });
  };
  if (resume === undefined) return { kind: "new", config: requireConfig(), out, weights, ...from };
  if (resume !== "auto") {
    return { kind: "resume", path: refuseNew(resume, config, out, weights), ...from };
  }
  if (out === undefined) requireConfig();
  return { kind: "auto", config, out, weights, ...from };
}

function refuseNew(
  resume: string,
  config: string | undefined,
  out: string | undefined,
  weights: FromWeights | undefined,
): string {
  if (weights !== undefined) {
    throw new UserError(`--resume goes on with the weights of ${resume}`, {
      hint: "leave out --from, or begin a new run",
    });
  }
  if (config === undefined && out === undefined) return resume;
  throw new UserError(`--resume goes on with the config and folder of ${resume}`, {
    hint: `leave out ${config === undefined ? "--out" : config}; change fields with --set`,
  });
}

/** The overrides with `--seed` among them. Two seeds from the command line must agree; the shell's yields. */
function withSeed(
  overrides: readonly string[],
  seed: number | undefined,
  from: "shell" | "flag",
): readonly string[] {
  const other = overrides.findLast((override) => override.startsWith("seed="));
  if (seed === undefined || (other && from === "shell")) return overrides;
  if (other === undefined || other === `seed=${seed}`) return [...overrides, `seed=${seed}`];
  throw new UserError(`two seeds: --seed ${seed} and --set ${other}`, { hint: "leave one out" });
}

/** Where training begins. The folder of a run that is there is locked from here on. */
export async function beginningOf(start: Start): Promise<Beginning> {
  const { newRun, resumeOrBegin, resumeRun } = await import("../core/train/mod.ts");
  if (start.kind === "resume") return await resumeRun(start.path);
  const run = runFolder(start);
  if (start.kind === "auto") return await resumeOrBegin(run);
  return newRun(run);
}

/** A run's folder, and the checkpoint that it goes on from. */
export type BeginningAt = Pick<Beginning, "run" | "checkpoint">;

/** As `beginningOf`, for a look that locks nothing. */
export async function lookAt(start: Start): Promise<BeginningAt> {
  const { newestCheckpoint, refuseImported, runOf } = await import("../core/train/mod.ts");
  const run = start.kind === "resume" ? await runOf(start.path) : runFolder(start);
  const checkpoint = start.kind === "new" ? undefined : await newestCheckpoint(run);
  if (checkpoint !== undefined) await refuseImported(checkpoint);
  return { run, checkpoint };
}

function runFolder({ config, out }: Extract<Start, { kind: "new" | "auto" }>): string {
  return out ?? join("runs", basename(config ?? "").replace(/\.ya?ml$/, ""));
}

/** How configs of a kind are read. */
export interface ConfigReading<C extends AnyConfig> {
  /** By file, or by the name of one that quern carries. */
  load(name: string, overrides: readonly string[], say: (line: string) => void): Promise<C>;
  readRun(run: string, overrides?: readonly string[]): Promise<C>;
}

/** The config that a start names, with its overrides: a file's, or of a run that is there the run's own. */
export async function loadStart<C extends AnyConfig>(
  start: Start,
  { run, checkpoint }: BeginningAt,
  { load, readRun, say }: ConfigReading<C> & { readonly say: (line: string) => void },
): Promise<C> {
  const { withSizesOf } = await import("../core/train/mod.ts");
  const { overrides, shellSeed } = start;
  if (start.kind === "resume") return await readRun(run, overrides);
  const before = checkpoint === undefined ? undefined : await readRun(run);
  const seed = before && shellSeed !== undefined ? before.seed : shellSeed;
  const all = withSeed(overrides, seed, "shell");
  if (start.config === undefined) return await readRun(run, all);
  const config = await load(start.config, all, say);
  return before ? withSizesOf(before, config) : config;
}
