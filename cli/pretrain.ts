/**
 * `quern pretrain`: token shards to a trained model in a run folder.
 *
 * @module
 */
import { basename, join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { shellWord } from "../core/io/words.ts";
import type { Beginning, OpenData, PretrainConfig } from "../core/train/mod.ts";
import {
  blasOption,
  type DeviceChoice,
  deviceOption,
  openChosenDevice,
  threadsOption,
} from "./device_options.ts";
import { logOption, logOverrides } from "./log_option.ts";
import { parsePath, seedOption } from "./options.ts";
import { loadNamed } from "./named_config.ts";
import { printDryRun } from "./pretrain_dry_run.ts";
import {
  type DataFacts,
  factsOf,
  memoryOption,
  requireWithin,
  type Resolved,
  resolveWithin,
  type RunMemory,
} from "./run_memory.ts";
import { type Conversation, showTraining } from "./pretrain_progress.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { formatCount } from "./ui/numbers.ts";
import { version } from "./version.ts";
import { averageOption } from "./weights_options.ts";

const help = `
The run folder holds the resolved config, a manifest, metrics.jsonl, report.html, the tokenizer and
the checkpoints. --set overrides any field of the config, with --resume too: quern goes on with what it says.
Ctrl-C finishes the step, saves, and says how to resume; a second one stops at once.

Examples:
  quern pretrain shakespeare-char --out runs/shakespeare
  quern pretrain shakespeare-char --set steps=200 --set model.qk_norm=true
  quern pretrain llama-5m --dry-run --device webgpu
  quern pretrain --resume runs/shakespeare
  quern pretrain shakespeare-char --from runs/shakespeare --out runs/shakespeare-2
  quern pretrain shakespeare-char --resume auto   # begins, or goes on: the same line each time`;

/** The command with its options. */
export function pretrainCommand(): CommandUnknownOpts {
  return new Command("pretrain")
    .summary("train a model from a config")
    .description("Trains a model on token shards, as a YAML config says.")
    .argument("[config]", "YAML file, or a name of quern config list; left out with --resume")
    .option("--out <folder>", "run folder (default: runs/ and the config's name)", parsePath)
    .option(
      "--resume <run>",
      "go on with a run folder, or from one of its checkpoints; auto: with CONFIG's run, if it has any",
      parsePath,
    )
    .option(
      "--from <run>",
      "begin with the weights of another run, of one of its checkpoints, or of a Hugging Face folder",
      parsePath,
    )
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
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (config, options, command) => {
      const { resume, out, json, quiet } = options, weights = weightsIn(options);
      const isFromShell = command.getOptionValueSource("seed") === "env";
      const set = [...options.set ?? [], ...logOverrides(options.log)];
      const overrides = isFromShell ? set : withSeed(set, options.seed, "flag");
      const shellSeed = isFromShell ? options.seed : undefined, from = { overrides, shellSeed };
      const start: Start = resume === undefined
        ? { kind: "new", config: requireConfig(config), out, weights, ...from }
        : resume === "auto"
        ? {
          kind: "auto",
          config: out === undefined ? requireConfig(config) : config,
          out,
          weights,
          ...from,
        }
        : { kind: "resume", path: refuseNew(resume, config, out, weights), ...from };
      if (options.dryRun) {
        const say = (line: string) => json || quiet || console.error(line);
        const at = await lookAt(start), given = await loadStart(start, at, say);
        const job = { given, data: await readFacts(at, given), run: at.run, notesOn };
        if (at.checkpoint === undefined) await requireFitting(start, given, job.data);
        await printDryRun(job, { ...options, form: json ? "json" : "text" });
        return;
      }
      await pretrainWith(start, options, { json, quiet, summary: true });
    });
}

/** The overrides with `--seed` among them. Two seeds from the command line must agree; the shell's yields. */
function withSeed(
  overrides: readonly string[],
  seed: number | undefined,
  from: "shell" | "flag",
): string[] {
  const other = overrides.findLast((override) => override.startsWith("seed="));
  if (seed === undefined || (other && from === "shell")) return [...overrides];
  if (other === undefined || other === `seed=${seed}`) return [...overrides, `seed=${seed}`];
  throw new UserError(`two seeds: --seed ${seed} and --set ${other}`, { hint: "leave one out" });
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

/** The model that a run begins with. */
interface FromWeights {
  readonly path: string;
  readonly average: "ema" | "swa" | undefined;
}

function weightsIn(
  { from, average }: { from?: string | undefined; average?: FromWeights["average"] },
): FromWeights | undefined {
  if (from !== undefined) return { path: from, average };
  if (average === undefined) return undefined;
  throw new UserError(`--average ${average} is of the weights that --from names`, {
    hint: "give --from RUN, too",
  });
}

function requireConfig(config: string | undefined): string {
  if (config !== undefined) return config;
  throw new UserError("no config is given", {
    hint: "for example: quern pretrain shakespeare-char; or --resume RUN",
  });
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

/** Trains, and shows it as asked. Returns the run folder. */
export async function pretrainWith(
  start: Start,
  choice: DeviceChoice & RunMemory,
  conversation: Conversation,
): Promise<string> {
  const { diskShortage, openData, requireNew, requireVocabulary } = await import(
    "../core/train/mod.ts"
  );
  const say = (line: string) => conversation.quiet || conversation.json || console.error(line);
  using interruption = listenForInterrupt("interrupted");
  using beginning = await beginningOf(start);
  const { run } = beginning, config = await loadStart(start, beginning, say);
  if (start.kind === "new") await requireNew(run); // before anything is said of it
  using from = await firstWeights(start, beginning);
  if (from) say(`begins with the weights of ${from.checkpoint}`);
  using data = await openData(config.data, await dataFolders(beginning, config, say));
  requireVocabulary(config.model.vocab_size, data.vocabSize);
  await using device = await openChosenDevice(choice);
  const { target } = device, facts = factsOf(data, config.data.packing), { memory } = choice;
  const resolved = await resolveWithin(config, { target, device, data: facts, memory });
  await requireWithin(resolved.config, target, memory);
  for (const line of await notesOn(config, resolved, facts)) say(line);
  const shortage = await diskShortage(resolved.config, run);
  if (shortage) say(`warning: ${shortage.message}; ${shortage.hint}`);
  for (const line of await unmeasured(data)) say(line);
  const job = {
    config: resolved.config,
    data,
    device,
    beginning,
    from,
    session: { version, command: ["quern", ...Deno.args] },
    signal: interruption.signal,
  };
  const { reason, step } = await showTraining(job, conversation);
  if (reason === "interrupted") {
    throw new UserError(`interrupted after step ${step}; everything is saved`, {
      hint: `go on with: quern pretrain --resume ${shellWord(run)}`,
      exitCode: exitCodes.interrupted,
    });
  }
  if (reason === "finished") {
    say(`for more: quern pretrain --resume ${shellWord(run)} --set ${moreThan(step, config)}`);
  }
  return run;
}

/** What makes a run that is done go on: twice its length. */
function moreThan(step: number, { steps, max_tokens }: PretrainConfig): string {
  if (steps !== undefined || max_tokens === undefined) return `steps=${2 * step}`;
  const [, amount, rest] = String(max_tokens).match(/^([\d.]+)(.*)$/)!;
  return shellWord(`max_tokens=${2 * Number(amount)}${rest}`);
}

/** Where training begins. The folder of a run that is there is locked from here on. */
async function beginningOf(start: Start): Promise<Beginning> {
  const { newRun, resumeOrBegin, resumeRun } = await import("../core/train/mod.ts");
  if (start.kind === "resume") return await resumeRun(start.path);
  const run = runFolder(start);
  if (start.kind === "auto") return await resumeOrBegin(run);
  return newRun(run);
}

/** The weights that a run which begins anew begins with, if others than its seed's. */
async function firstWeights(start: Start, { checkpoint }: BeginningAt) {
  if (start.kind === "resume" || start.weights === undefined || checkpoint !== undefined) {
    return undefined;
  }
  const { openAny } = await import("../core/open/mod.ts");
  const { path, average } = start.weights;
  return await openAny(path, { average });
}

/** The same, for a look: whether they are the model's. */
async function requireFitting(start: Start, config: PretrainConfig, data: DataFacts) {
  using weights = await firstWeights(start, { run: "", checkpoint: undefined });
  if (!weights) return;
  const { modelOf, requireTensors } = await import("../core/train/mod.ts");
  const { namedParams } = await import("../core/model/mod.ts");
  const params = namedParams(modelOf(config, data.vocab_size).params);
  requireTensors(weights.file, params.map(({ path, shape }) => ({ name: path, shape })));
}

async function dataFolders(
  { run, checkpoint }: BeginningAt,
  config: PretrainConfig,
  say: (line: string) => void,
): Promise<string[]> {
  const { dataPaths, findData, pathField } = await import("../core/train/mod.ts");
  const paths = dataPaths(config.data);
  if (checkpoint === undefined) return paths;
  const folders = await findData(run, config);
  for (const [i, folder] of folders.entries()) {
    if (folder === paths[i]) continue;
    const field = pathField(config.data, i);
    say(`${field} ${paths[i]} is not here; taken from where it was: ${folder}`);
  }
  return folders;
}

/** Says whose validation loss there will not be. */
async function unmeasured({ sources, isMixture }: OpenData): Promise<string[]> {
  const { holdsOut } = await import("../core/train/mod.ts");
  return sources.filter((source) => !holdsOut(source)).map(({ name }) => {
    const whose = isMixture ? ` of ${name}: it holds` : ": the data hold";
    return `no validation loss${whose} nothing out (quern tokenize --val-fraction)`;
  });
}

/** The config that a start names, with its overrides: a file's, or of a run that is there the run's own. */
async function loadStart(
  start: Start,
  { run, checkpoint }: BeginningAt,
  say: (line: string) => void,
): Promise<PretrainConfig> {
  const { readRunConfig, withSizesOf } = await import("../core/train/mod.ts");
  const { overrides, shellSeed } = start;
  if (start.kind === "resume") return await readRunConfig(run, overrides);
  const before = checkpoint === undefined ? undefined : await readRunConfig(run);
  const seed = before && shellSeed !== undefined ? before.seed : shellSeed;
  const all = withSeed(overrides, seed, "shell");
  if (start.config === undefined) return await readRunConfig(run, all);
  const config = await loadNamed(start.config, all, say);
  return before ? withSizesOf(before, config) : config;
}

type BeginningAt = Pick<Beginning, "run" | "checkpoint">;

function runFolder({ config, out }: Extract<Start, { kind: "new" | "auto" }>): string {
  return out ?? join("runs", basename(config ?? "").replace(/\.ya?ml$/, ""));
}

/** As `beginningOf`, for a look that locks nothing. */
async function lookAt(start: Start): Promise<BeginningAt> {
  const { newestCheckpoint, refuseImported, runOf } = await import("../core/train/mod.ts");
  const run = start.kind === "resume" ? await runOf(start.path) : runFolder(start);
  const checkpoint = start.kind === "new" ? undefined : await newestCheckpoint(run);
  if (checkpoint !== undefined) await refuseImported(checkpoint);
  return { run, checkpoint };
}

/** What the config left open, with the rule that filled it, and what may not be meant so. */
async function notesOn(
  given: PretrainConfig,
  { config, memory }: Resolved,
  data: DataFacts,
): Promise<string[]> {
  const { derivedNumbers, doubtsOf } = await import("../core/train/mod.ts");
  const derived = derivedNumbers(given, config, memory).map(({ name, value, rule }) =>
    `${name} ${value} = ${rule}`
  );
  const doubts = [...doubtsOf(config), ...spareTokens(config.model.vocab_size, data.vocab_size)];
  return [...derived, ...doubts.map((doubt) => `note: ${doubt}`)];
}

/** A vocabulary is often rounded up; one that is far beyond the data's was mostly meant for others. */
function spareTokens(ofModel: number, ofData: number): string[] {
  if (ofModel <= 2 * ofData + 256) return [];
  const [model, data] = [ofModel, ofData].map(formatCount);
  return [
    `model.vocab_size is ${model}, but the data's tokenizer has ${data}: others are not trained`,
  ];
}

/** Data need not be there where the config says the vocabulary. */
async function readFacts(beginning: BeginningAt, config: PretrainConfig): Promise<DataFacts> {
  const { openData, requireVocabulary } = await import("../core/train/mod.ts");
  const { exists } = await import("../core/io/atomic.ts");
  const { vocab_size } = config.model;
  const folders = await dataFolders(beginning, config, console.error);
  const areThere = await Promise.all(folders.map(exists));
  if (vocab_size !== undefined && areThere.includes(false)) return { vocab_size };
  using data = await openData(config.data, folders);
  requireVocabulary(vocab_size, data.vocabSize);
  return factsOf(data, config.data.packing);
}
