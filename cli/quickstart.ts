/**
 * `quern quickstart`: the whole way once, on a text that quern writes itself.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import quickstartConfig from "../configs/quickstart.yaml" with { type: "text" };
import type { HeldOutSum } from "../core/data/corpus.ts";
import type { Device } from "../core/device/mod.ts";
import type { BatchSizes } from "../core/train/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural, shellWord } from "../core/io/words.ts";
import { blasOption, deviceOption, openChosenDevice, threadsOption } from "./device_options.ts";
import { type Conversation, showTraining } from "./train_progress.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { formatBytes, formatCount, formatDuration } from "./ui/numbers.ts";
import { version } from "./version.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
Writes about 2 MB of short stories and sums, tokenizes them, trains a small model for about a minute on
two processor cores, lets it write, and asks it sums that it has never seen.

Examples:
  quern quickstart
  quern quickstart --out runs/second-try --set steps=300`;

const seed = 1;

/** The command with its options. */
export function quickstartCommand(): CommandUnknownOpts {
  return new Command("quickstart")
    .summary("all of it once, in about a minute")
    .description("Makes a text, tokenizes it, trains a model on it, and generates with that.")
    .option(
      "--out <folder>",
      "where everything goes; an earlier quickstart's model there is kept beside",
      "runs/quickstart",
    )
    .option(
      "--set <path=value>",
      "override a field of the config; repeatable",
      (value, before: string[]) => [...before, value],
      [],
    )
    .addOption(deviceOption().default("cpu" as const))
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but the result", false)
    .addHelpText("after", help)
    .action(async ({ out, set, json, quiet, ...choice }) => {
      const say = (line: string) => quiet ? undefined : console.error(line);
      refuseOtherData(set);
      await readConfig(join(out, "data"), set); // before anything is written
      const again = "quern quickstart begins again from the start";
      using interruption = listenForInterrupt("interrupted before the training", again);
      const { signal } = interruption;
      const { lockFolder } = await import("../core/io/lock.ts");
      const { text, heldOut } = await makeText();
      await prepareFolder(out, text);
      using _lock = await lockFolder(out);
      const run = join(out, "model");
      const data = await makeData(out, text, say, signal);
      await writeTask(out, heldOut);
      await using device = await openChosenDevice(choice);
      signal.throwIfAborted();
      const conversation = { json: false, quiet: quiet || json, summary: false };
      const trained = await train({ data, run, device, overrides: set, conversation, signal });
      const story = await tell(run, device, signal);
      const correct = await answer(run, device, heldOut, signal);
      const result = { ...trained, run, story, correct, asked: heldOut.length };
      if (json) console.log(JSON.stringify(jsonOf(result)));
      else printFolded(describe(result));
    });
}

const corpusFile = "corpus.txt";

/** The stories and sums are what the rest is about. */
function refuseOtherData(overrides: readonly string[]): void {
  const other = overrides.find((override) => /^data(=|\.(path|sources)\b)/.test(override));
  if (other === undefined) return;
  throw new UserError("quickstart trains on the text that it makes", {
    where: `--set ${other}`,
    hint: "quern pretrain quickstart --set data.path=FOLDER takes other data",
  });
}

/** Makes the folder; of those that are there only an empty one and a quickstart's are taken. */
async function prepareFolder(out: string, text: string): Promise<void> {
  const { exists } = await import("../core/io/atomic.ts");
  if (!await exists(out)) return await Deno.mkdir(out, { recursive: true });
  const corpus = join(out, corpusFile);
  if (await exists(corpus)) {
    if (await Deno.readTextFile(corpus) === text) return;
    throw new UserError("this is not the text that quickstart writes, and would be lost", {
      where: corpus,
      hint: "choose another --out",
    });
  }
  const { lockFile } = await import("../core/io/lock.ts");
  const names = await Array.fromAsync(Deno.readDir(out), ({ name }) => name);
  // one was killed before it had written anything
  if (names.every((name) => name === lockFile || name.startsWith(`.${corpusFile}.partial-`))) {
    return;
  }
  throw new UserError("it exists and is no quickstart's folder", {
    where: out,
    hint: "choose another --out",
  });
}

/** Moves an earlier quickstart's run aside, unless a process works on it; one that has no weights is removed. */
async function putAside(run: string, say: (line: string) => void): Promise<void> {
  const { exists } = await import("../core/io/atomic.ts");
  const { refuseLocked } = await import("../core/io/lock.ts");
  const { newestCheckpoint } = await import("../core/train/mod.ts");
  if (!await exists(run)) return;
  await refuseLocked(run);
  if (await newestCheckpoint(run) === undefined) return await Deno.remove(run, { recursive: true });
  let count = 1;
  while (await exists(`${run}-${count}`)) count++;
  await Deno.rename(run, `${run}-${count}`);
  say(`the model that was in ${run} is now ${run}-${count}`);
}

/** The corpus, the same each time, and the sums that it does not show. */
async function makeText() {
  const { makeCorpus } = await import("../core/data/corpus.ts");
  const { documents, heldOut } = makeCorpus({ seed, sumsFraction: 0.5 });
  return { text: `${documents.join("\n")}\n`, heldOut };
}

/** The corpus as token shards. */
async function makeData(
  out: string,
  corpus: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const { tokenizeFiles } = await import("../core/data/tokenize.ts");
  const { writeFileAtomic } = await import("../core/io/atomic.ts");
  const text = join(out, corpusFile), data = join(out, "data");
  await putAside(join(out, "model"), say);
  await writeFileAtomic(text, corpus);
  say(`1. wrote ${text}: ${formatBytes(corpus.length)} of stories and sums`);
  await nextTurn(); // writing the corpus let no signal through
  signal.throwIfAborted();
  const { index } = await tokenizeFiles({
    inputs: [text],
    reading: { format: "text", fields: ["text"], separator: "\n", onError: "stop" },
    tokenizer: "character",
    valFraction: 0.05,
    seed,
    target: { folder: data, ifExists: "replace", shardBytes: 256 * 2 ** 20 },
  }, { signal });
  say(
    `2. tokenized it to ${data}: ${formatCount(index.splits.train.tokens)} tokens, ` +
      `${formatCount(index.splits.val.tokens)} held out`,
  );
  return data;
}

const taskFile = "sums.yaml", rowsFile = "sums.jsonl";

/** The held-out sums as a task of `quern eval`, and an example of a task of one's own. */
async function writeTask(out: string, sums: readonly HeldOutSum[]): Promise<void> {
  const { writeFileAtomic } = await import("../core/io/atomic.ts");
  const rows = sums.map((sum) => `${JSON.stringify(sum)}\n`).join("");
  await writeFileAtomic(join(out, rowsFile), rows);
  await writeFileAtomic(join(out, taskFile), sumsTask);
}

const sumsTask = `\
# Sums that the model has never seen: the answer must be right to the last character.
task: sums
data_file: ${rowsFile}
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
generation_kwargs: { max_gen_toks: 8 }
metric_list: [{ metric: exact_match }]
`;

interface TrainingJob {
  readonly data: string;
  readonly run: string;
  readonly device: Device;
  readonly overrides: readonly string[];
  readonly conversation: Conversation;
  readonly signal: AbortSignal;
}

/** What training came to. */
interface Trained {
  readonly parameters: number;
  readonly step: number;
  readonly heldOutLoss: number;
  readonly bitsPerByte: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

async function train(
  { run, device, conversation, signal, ...from }: TrainingJob,
): Promise<Trained> {
  const { countAll, buildModel, namedParams } = await import("../core/model/mod.ts");
  const { doubtsOf, newRun, openData, resolveConfig, shardData } = await import(
    "../core/train/mod.ts"
  );
  const { factsOf, resolveWithin } = await import("./run_memory.ts");
  const given = await readConfig(from.data, from.overrides), { target } = device;
  using data = await openData(given.data);
  const facts = factsOf(data, given.data.packing);
  const resolve = (sizes?: BatchSizes) => resolveConfig(given, data.vocabSize, sizes);
  const { config } = await resolveWithin(given, { target, device, data: facts, resolve });
  const parameters = countAll(namedParams(buildModel(config.model).params));
  if (!conversation.quiet) {
    for (const doubt of doubtsOf(config)) console.error(`note: ${doubt}`);
    console.error(`3. training ${formatCount(parameters)} parameters`);
  }
  const job = {
    config,
    data: shardData(data, config),
    device,
    beginning: newRun(run),
    session: { version, command: ["quern", ...Deno.args] },
    signal,
  };
  const began = performance.now();
  const end = await showTraining(job, conversation);
  if (end.reason === "interrupted") {
    throw new UserError(`interrupted after step ${end.step}; everything is saved`, {
      hint: `go on with: quern pretrain --resume ${shellWord(run)}`,
      exitCode: exitCodes.interrupted,
    });
  }
  return {
    parameters,
    step: end.step,
    heldOutLoss: end.validation?.loss ?? NaN,
    bitsPerByte: end.validation?.bitsPerByte ?? NaN,
    seconds: (performance.now() - began) / 1000,
    tokensPerSecond: end.tokensPerSecond,
  };
}

/** `configs/quickstart.yaml`, which quern carries, for this folder's data. */
async function readConfig(data: string, overrides: readonly string[]) {
  const { parseConfig } = await import("../core/io/config.ts");
  const { pretrainConfig } = await import("../core/train/mod.ts");
  return parseConfig(pretrainConfig, {
    text: quickstartConfig,
    file: "configs/quickstart.yaml",
    overrides: [`data.path=${data}`, ...overrides],
  });
}

/** A story, by sampling. */
async function tell(run: string, device: Device, signal: AbortSignal): Promise<string> {
  const { generate, openModel } = await import("../core/generate/mod.ts");
  using model = await openModel(run, device);
  const sampling = { temperature: 0.6, topK: 0, topP: 1, seed };
  let story = "Once";
  for await (const event of generate(model, story, { maxTokens: 400, sampling, signal })) {
    story += event.text;
    requireTime(run, signal);
    if (event.kind === "end" && event.reason !== "end_of_text") story += " …";
  }
  return story;
}

/** How many of the held-out sums are answered exactly, always by the likeliest token. */
async function answer(
  run: string,
  device: Device,
  sums: readonly HeldOutSum[],
  signal: AbortSignal,
): Promise<number> {
  const { generateBatch, openModel } = await import("../core/generate/mod.ts");
  const sampling = { temperature: 0, topK: 0, topP: 1, seed };
  const size = 40;
  let correct = 0;
  using model = await openModel(run, device, { batch: size });
  for (let at = 0; at < sums.length; at += size) {
    const asked = sums.slice(at, at + size);
    const { texts } = await generateBatch(model, asked.map(({ question }) => question), {
      maxTokens: 8,
      sampling,
      signal,
    });
    requireTime(run, signal);
    correct += texts.filter(({ text }, i) => text === asked[i].answer).length;
  }
  return correct;
}

/** Ends what comes after training at Ctrl-C. */
function requireTime(run: string, signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new UserError("interrupted after the training; the model is saved", {
    hint: `let it write: quern generate ${shellWord(run)} "Once"`,
    exitCode: exitCodes.interrupted,
  });
}

interface Result extends Trained {
  readonly run: string;
  readonly story: string;
  readonly correct: number;
  readonly asked: number;
}

function describe(result: Result): string {
  const { run, story, correct, asked, parameters, step, seconds, tokensPerSecond } = result;
  return [
    `held-out loss        ${result.heldOutLoss.toFixed(3)} nats a character, ${
      result.bitsPerByte.toFixed(3)
    } bits a byte`,
    `sums never seen      ${correct} of ${asked} right`,
    `training             ${formatCount(parameters)} parameters, ${plural(step, "step")} in ${
      formatDuration(seconds)
    }, ${formatCount(tokensPerSecond)} tokens/s`,
    `its curves           ${join(run, "report.html")}`,
    "",
    `the model goes on from "Once":`,
    `  ${story}`,
    "",
    "next:",
    `  quern generate ${shellWord(run)} "What is 12 + 34?" --temperature 0`,
    `  quern generate ${shellWord(run)} "One morning" --seed 7`,
    `  quern eval ${shellWord(run)} --tasks ${shellWord(join(dirname(run), taskFile))}`,
    `  quern pretrain --resume ${shellWord(run)} --set steps=${2 * step}`,
    "  quern tokenize YOUR.txt --out data/yours --tokenizer character",
  ].join("\n");
}

function jsonOf(result: Result): Record<string, unknown> {
  return {
    run: result.run,
    report: join(result.run, "report.html"),
    parameters: result.parameters,
    steps: result.step,
    held_out_loss: result.heldOutLoss,
    bits_per_byte: result.bitsPerByte,
    sums_correct: result.correct,
    sums_asked: result.asked,
    seconds: result.seconds,
    tokens_per_second: result.tokensPerSecond,
    story: result.story,
  };
}
