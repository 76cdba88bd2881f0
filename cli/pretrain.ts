/**
 * `quern pretrain`: token shards to a trained model in a run folder.
 *
 * @module
 */
import { basename, join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { shellWord } from "../core/io/words.ts";
import type { PretrainConfig, ResolvedConfig } from "../core/train/mod.ts";
import {
  blasOption,
  type DeviceChoice,
  deviceOption,
  openChosenDevice,
  threadsOption,
} from "./device_options.ts";
import { parsePath, seedOption } from "./options.ts";
import { printDryRun } from "./pretrain_dry_run.ts";
import { type Conversation, showTraining } from "./pretrain_progress.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { version } from "./version.ts";

const help = `
The run folder holds the resolved config, a manifest, metrics.jsonl, the tokenizer and the
checkpoints. --set overrides any field of the config, with --resume too: quern goes on with what it says.
Ctrl-C finishes the step, saves, and says how to resume; a second one stops at once.

Examples:
  quern pretrain configs/shakespeare-char.yaml --out runs/shakespeare
  quern pretrain configs/shakespeare-char.yaml --set steps=200 --set model.qk_norm=true
  quern pretrain configs/llama-5m.yaml --dry-run --device webgpu
  quern pretrain --resume runs/shakespeare`;

/** The command with its options. */
export function pretrainCommand(): CommandUnknownOpts {
  return new Command("pretrain")
    .summary("train a model from a config")
    .description("Trains a model on token shards, as a YAML config says.")
    .argument("[config]", "YAML file, or a name of quern config list; left out with --resume")
    .option("--out <folder>", "run folder (default: runs/ and the config's name)", parsePath)
    .option("--resume <run>", "go on with a run folder, or from one of its checkpoints", parsePath)
    .addOption(
      new Option("--set <path=value>", "override a field of the config; repeatable")
        .argParser((value: string, before: string[] | undefined) => [...before ?? [], value]),
    )
    .option("--dry-run", "say what it would take, and do nothing", false)
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .addOption(seedOption())
    .option("--json", "one JSON object a line for everything that happens", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (config, options, command) => {
      const { resume, json, quiet } = options;
      const isFromShell = command.getOptionValueSource("seed") === "env";
      // a run has its seed; what the shell says for new ones does not matter to it
      const seed = isFromShell && resume !== undefined ? undefined : options.seed;
      const overrides = withSeed(options.set ?? [], seed, isFromShell ? "shell" : "flag");
      const start: Start = resume === undefined
        ? { kind: "new", config: requireConfig(config), out: options.out, overrides }
        : { kind: "resume", path: refuseNew(resume, config, options.out), overrides };
      if (options.dryRun) {
        const { config, notes } = await resolved(start);
        await printDryRun(config, notes, { ...options, form: json ? "json" : "text" });
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

/** Where a run begins. */
export type Start =
  | {
    readonly kind: "new";
    readonly config: string;
    readonly out?: string | undefined;
    readonly overrides: readonly string[];
  }
  | { readonly kind: "resume"; readonly path: string; readonly overrides: readonly string[] };

function requireConfig(config: string | undefined): string {
  if (config !== undefined) return config;
  throw new UserError("no config is given", {
    hint: "for example: quern pretrain configs/shakespeare-char.yaml; or --resume RUN",
  });
}

function refuseNew(resume: string, config: string | undefined, out: string | undefined): string {
  if (config === undefined && out === undefined) return resume;
  throw new UserError(`--resume goes on with the config and folder of ${resume}`, {
    hint: `leave out ${config === undefined ? "--out" : config}; change fields with --set`,
  });
}

/** Trains, and shows it as asked. Returns the run folder. */
export async function pretrainWith(
  start: Start,
  choice: DeviceChoice,
  conversation: Conversation,
): Promise<string> {
  const { openShards } = await import("../core/data/shard_reader.ts");
  const { pretrain, resolveConfig } = await import("../core/train/mod.ts");
  const say = (line: string) => conversation.quiet || conversation.json || console.error(line);
  const point = start.kind === "resume" ? await findPoint(start.path, say) : undefined;
  const config = await loadStart(start);
  const run = point?.run ?? runFolder(start);
  using data = await openShards(await dataFolder(start, run, config, say));
  requireVocabulary(config.model.vocab_size, data.index.vocab_size);
  using interruption = listenForInterrupt("interrupted");
  await using device = await openChosenDevice(choice);
  const resolved = resolveConfig(config, data.index.vocab_size);
  for (const line of await notesOn(config, resolved)) say(line);
  if (data.splits.val.tokens === 0) {
    say("no validation loss: the data hold nothing out (quern tokenize --val-fraction)");
  }
  const job = {
    config: resolved,
    data,
    device,
    run,
    resumeFrom: point?.checkpoint,
    session: { version, command: ["quern", ...Deno.args] },
    signal: interruption.signal,
  };
  const { reason, step } = await showTraining(pretrain(job), job, conversation);
  if (reason === "interrupted") {
    throw new UserError(`interrupted after step ${step}; everything is saved`, {
      hint: `go on with: quern pretrain --resume ${shellWord(run)}`,
      exitCode: exitCodes.interrupted,
    });
  }
  if (reason === "finished") {
    say(`for more: quern pretrain --resume ${shellWord(run)} --set steps=${2 * step}`);
  }
  return run;
}

/** Where a run goes on. One that was killed in its first save has no such place; what it left is removed. */
async function findPoint(path: string, say: (line: string) => void) {
  const { hasCheckpoint, isRun, removeBrokenCheckpoints, resumePoint } = await import(
    "../core/train/mod.ts"
  );
  if (await isRun(path) && !await hasCheckpoint(path)) {
    const { lockFolder } = await import("../core/io/lock.ts");
    using _lock = await lockFolder(path);
    const names = await removeBrokenCheckpoints(path);
    if (names.length > 0) say(`removed what a stopped process left: ${names.join(", ")}`);
  }
  return await resumePoint(path);
}

async function dataFolder(
  start: Start,
  run: string,
  config: PretrainConfig,
  say: (line: string) => void,
): Promise<string> {
  if (start.kind === "new") return config.data.path;
  const { findData } = await import("../core/train/mod.ts");
  const folder = await findData(run, config);
  if (folder !== config.data.path) {
    say(`data.path ${config.data.path} is not here; taken from where it was: ${folder}`);
  }
  return folder;
}

async function loadStart(start: Start) {
  const { pretrainConfig, readRunConfig, resumePoint } = await import("../core/train/mod.ts");
  if (start.kind === "resume") {
    return await readRunConfig((await resumePoint(start.path)).run, start.overrides);
  }
  const { loadConfig, parseConfig } = await import("../core/io/config.ts");
  const { exists } = await import("../core/io/atomic.ts");
  const { builtinConfig } = await import("./builtin_configs.ts");
  const carried = await exists(start.config) ? undefined : builtinConfig(start.config);
  return carried
    ? parseConfig(pretrainConfig, { ...carried, overrides: start.overrides })
    : await loadConfig(pretrainConfig, start.config, start.overrides);
}

function runFolder(start: Start): string {
  if (start.kind === "resume") return start.path;
  return start.out ?? join("runs", basename(start.config).replace(/\.ya?ml$/, ""));
}

/** The config as a run would have it. Data need not be there where the config says the vocabulary. */
async function resolved(start: Start): Promise<{ config: ResolvedConfig; notes: string[] }> {
  const { resolveConfig } = await import("../core/train/mod.ts");
  const given = await loadStart(start), config = resolveConfig(given, await vocabularyOf(given));
  return { config, notes: await notesOn(given, config) };
}

/** What the config left open, with the rule that filled it, and what may not be meant so. */
async function notesOn(given: PretrainConfig, config: ResolvedConfig): Promise<string[]> {
  const { derivedNumbers, doubtsOf } = await import("../core/train/mod.ts");
  const derived = derivedNumbers(given, config).map(({ name, value, rule }) =>
    `${name} ${value} = ${rule}`
  );
  return [...derived, ...doubtsOf(config).map((doubt) => `note: ${doubt}`)];
}

async function vocabularyOf({ model: { vocab_size }, data: { path } }: PretrainConfig) {
  const { openShards } = await import("../core/data/shard_reader.ts");
  const { exists } = await import("../core/io/atomic.ts");
  if (vocab_size !== undefined && !await exists(path)) return vocab_size;
  using data = await openShards(path);
  requireVocabulary(vocab_size, data.index.vocab_size);
  return data.index.vocab_size;
}

function requireVocabulary(ofModel: number | undefined, ofData: number): void {
  if (ofModel === undefined || ofModel >= ofData) return;
  throw new UserError(`the data have ${ofData} tokens, the model only ${ofModel}`, {
    where: "model.vocab_size",
    hint: "leave it out to take the data's; a run goes on only with the data that it began with",
  });
}
