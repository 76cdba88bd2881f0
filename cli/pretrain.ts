/**
 * `quern pretrain`: token shards to a trained model in a run folder.
 *
 * @module
 */
import { basename, join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { exitCodes, UserError } from "../core/io/errors.ts";
import type { DerivedNumber, PretrainConfig, ResolvedConfig } from "../core/train/mod.ts";
import {
  blasOption,
  type DeviceChoice,
  deviceOption,
  openChosenDevice,
  threadsOption,
} from "./device_options.ts";
import { parsePath, seedOption } from "./options.ts";
import { derivedLines, printDryRun } from "./pretrain_dry_run.ts";
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
    .argument("[config]", "YAML file; left out with --resume")
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
      // a run has its seed; what the shell says for new ones does not matter to it
      const isForeign = resume !== undefined && command.getOptionValueSource("seed") === "env";
      const overrides = [
        ...options.set ?? [],
        ...(options.seed === undefined || isForeign ? [] : [`seed=${options.seed}`]),
      ];
      const start: Start = resume === undefined
        ? { kind: "new", config: requireConfig(config), out: options.out, overrides }
        : { kind: "resume", path: refuseNew(resume, config, options.out), overrides };
      if (options.dryRun) {
        const { config, derived } = await resolved(start);
        await printDryRun(config, derived, { ...options, form: json ? "json" : "text" });
        return;
      }
      await pretrainWith(start, options, { json, quiet, summary: true });
    });
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
  const { derivedNumbers, pretrain, resolveConfig, resumePoint } = await import(
    "../core/train/mod.ts"
  );
  const config = await loadStart(start);
  using data = await openShards(config.data.path);
  const point = start.kind === "resume" ? await resumePoint(start.path) : undefined;
  const run = point?.run ?? runFolder(start);
  requireVocabulary(config.model.vocab_size, data.index.vocab_size);
  using interruption = listenForInterrupt("interrupted");
  await using device = await openChosenDevice(choice);
  const resolved = resolveConfig(config, data.index.vocab_size);
  if (!conversation.json && !conversation.quiet) {
    for (const line of derivedLines(derivedNumbers(config, resolved))) console.error(line);
    if (data.splits.val.tokens === 0) {
      console.error(
        "no validation loss: the data hold nothing out (quern tokenize --val-fraction)",
      );
    }
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
      hint: `go on with: quern pretrain --resume ${run}`,
      exitCode: exitCodes.interrupted,
    });
  }
  return run;
}

async function loadStart(start: Start) {
  const { pretrainConfig, readRunConfig, resumePoint } = await import("../core/train/mod.ts");
  if (start.kind === "resume") {
    return await readRunConfig((await resumePoint(start.path)).run, start.overrides);
  }
  const { loadConfig } = await import("../core/io/config.ts");
  return await loadConfig(pretrainConfig, start.config, start.overrides);
}

function runFolder(start: Start): string {
  if (start.kind === "resume") return start.path;
  return start.out ?? join("runs", basename(start.config).replace(/\.ya?ml$/, ""));
}

/** The config as a run would have it. Data need not be there where the config says the vocabulary. */
async function resolved(
  start: Start,
): Promise<{ config: ResolvedConfig; derived: DerivedNumber[] }> {
  const { derivedNumbers, resolveConfig } = await import("../core/train/mod.ts");
  const given = await loadStart(start), config = resolveConfig(given, await vocabularyOf(given));
  return { config, derived: derivedNumbers(given, config) };
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
