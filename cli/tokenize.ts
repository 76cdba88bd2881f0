/**
 * `quern tokenize`: files of text to token shards.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { InputFormat } from "../core/data/documents.ts";
import type { TokenizeJob, TokenizeResult } from "../core/data/tokenize.ts";
import { UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { numberBetween, parsePath, parseText, seedOption, wholeNumber } from "./options.ts";
import {
  defaultFields,
  fieldOption,
  formatOption,
  onErrorOption,
  textThreadsOption,
} from "./reading_options.ts";
import { tokenizeTrainCommand } from "./tokenize_train.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { formatBytes, formatCount, formatDuration } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
Inputs: text and jsonl, plain, .gz or .zst; parquet; "data/*.jsonl"; a folder with all such files
in it; - for stdin (text, unless --format says jsonl).
Documents: a jsonl line, a parquet row, or a whole text file unless --document-separator cuts it.
Validation: the last part of a whole text file; of other documents, some drawn by --seed.
Each document is closed by the tokenizer's end-of-text token, if it has one.

Examples:
  quern tokenize corpus.txt --out data/corpus --tokenizer character
  quern tokenize stories.jsonl --out data/stories --tokenizer byte --field story
  quern tokenize "data/*.jsonl.zst" --out data/qa --field question --field answer
  zcat a.txt.gz | quern tokenize - --out data/a
  quern tokenize a.txt b.txt --out data/ab --tokenizer path/to/tokenizer.json`;

/** The command with its options. */
export function tokenizeCommand(): CommandUnknownOpts {
  const command = new Command("tokenize")
    .summary("turn text, jsonl or parquet into token shards")
    .description(
      "Turns text, jsonl or parquet files into a folder of token shards for `quern pretrain`.",
    )
    .argument("<inputs...>", "files, folders, patterns, or - for stdin")
    .option("--out <folder>", "folder for the shards (required)", parsePath)
    .option(
      "--tokenizer <name>",
      "byte, character, or the path of a tokenizer.json",
      parsePath,
      "byte",
    )
    .addOption(
      new Option("--val-fraction <x>", "part of the text that is held out for validation")
        .argParser(numberBetween(0, 1)).default(0.1),
    )
    .addOption(formatOption())
    .addOption(fieldOption())
    .addOption(
      new Option("--document-separator <text>", "what stands between documents; \\n is a line feed")
        .argParser(parseText),
    )
    .addOption(onErrorOption())
    .addOption(
      new Option("--shard-mib <n>", "size limit of one shard file").argParser(wholeNumber(1))
        .default(256),
    )
    .addOption(seedOption().default(0))
    .addOption(textThreadsOption())
    .option("--overwrite", "replace the folder if it exists", false)
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .hook("preSubcommand", (self, train) => void train.copyInheritedSettings(self))
    .action(async (given, options, command) => {
      const { out } = options;
      // commander would ask `train` for this command's mandatory options, too
      if (out === undefined) {
        return command.error("error: required option '--out <folder>' not specified");
      }
      const { expandInputs } = await import("../core/data/inputs.ts");
      const inputs = await expandInputs(given);
      if (options.documentSeparator !== undefined) await requireText(inputs, options.format);
      const job: TokenizeJob = {
        inputs,
        reading: {
          format: options.format,
          fields: options.field ?? defaultFields,
          separator: options.documentSeparator,
          onError: options.onError,
        },
        tokenizer: options.tokenizer,
        valFraction: options.valFraction,
        seed: options.seed,
        threads: options.threads,
        target: {
          folder: out,
          ifExists: options.overwrite ? "replace" : "fail",
          shardBytes: options.shardMib * 2 ** 20,
        },
      };
      const startedAt = performance.now();
      const result = await runWithProgress(job, options.quiet ? "quiet" : "normal");
      const seconds = (performance.now() - startedAt) / 1000;
      if (options.json) console.log(JSON.stringify(summaryOf(job, result, seconds)));
      else if (!options.quiet) printFolded(describe(job, result, seconds));
      const missing = missingSplit(job, result);
      if (missing !== undefined && !options.quiet) console.error(`note: ${missing}`);
    });
  return command.addCommand(tokenizeTrainCommand());
}

/** Tokenizes with a line on stderr; Ctrl-C leaves nothing behind. */
async function runWithProgress(job: TokenizeJob, verbosity: "quiet" | "normal") {
  const { tokenizeFiles } = await import("../core/data/tokenize.ts");
  const total = await totalBytes(job.inputs);
  const progress = progressLine(verbosity);
  using interruption = listenForInterrupt("interrupted; nothing was written");
  try {
    return await tokenizeFiles(job, {
      signal: interruption.signal,
      onPartials: (names) =>
        progress.note(`removed what a stopped process left: ${names.join(", ")}`),
      onSkip: ({ where, message }) => progress.note(`skipped ${where}: ${message}`),
      onProgress: ({ documents, tokens, bytesRead }) =>
        progress.update(() =>
          `tokenizing ${percent(bytesRead, total)}  ${formatCount(documents)} documents  ` +
          `${formatCount(tokens)} tokens  ${formatBytes(bytesRead)} of ${formatBytes(total)}`
        ),
    });
  } finally {
    progress.end();
  }
}

/** The inputs' size; a file that cannot be asked counts nothing here, reading it says why. */
async function totalBytes(inputs: readonly string[]): Promise<number> {
  const sizes = await Promise.all(
    inputs.map((path) => Deno.stat(path).then(({ size }) => size, () => 0)),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function percent(part: number, whole: number): string {
  return `${Math.min(100, Math.floor(100 * part / Math.max(1, whole)))} %`;
}

/** What `--json` prints; the names are stable. */
function summaryOf(job: TokenizeJob, { index, skipped, empty }: TokenizeResult, seconds: number) {
  const { train, val } = index.splits;
  const counts = ({ tokens, documents, bytes }: typeof train) => ({ tokens, documents, bytes });
  return {
    out: job.target.folder,
    tokenizer: index.tokenizer,
    vocab_size: index.vocab_size,
    end_of_text: index.end_of_text,
    dtype: index.dtype,
    train: counts(train),
    val: counts(val),
    skipped,
    empty,
    seconds: Number(seconds.toFixed(3)),
  };
}

function describe(job: TokenizeJob, result: TokenizeResult, seconds: number): string {
  const { index, tokenizer, skipped, empty } = result;
  const line = (name: "train" | "val") => {
    const { tokens, documents, bytes } = index.splits[name];
    const each = tokens === 0 ? "" : `, ${(bytes / tokens).toFixed(2)} bytes a token`;
    return `  ${name.padEnd(5)}  ${plural(tokens, "token")} in ${
      plural(documents, "document")
    }${each}`;
  };
  const end = tokenizer.endOfText === undefined
    ? "no end-of-text token: documents follow each other without a mark"
    : `end of text ${tokenizer.endOfText}`;
  return [
    `${job.target.folder}: ${tokenizer.kind} tokenizer, vocabulary ${
      formatCount(index.vocab_size)
    }, ${end}`,
    line("train"),
    line("val"),
    ...(skipped === 0 ? [] : [`  ${plural(skipped, "document")} skipped`]),
    ...(empty === 0 ? [] : [`  ${plural(empty, "empty document")} left out`]),
    `  ${formatDuration(seconds)}`,
  ].join("\n");
}

/** A split that a user would miss later. */
function missingSplit(job: TokenizeJob, { index }: TokenizeResult): string | undefined {
  const { train, val } = index.splits;
  if (train.tokens === 0) return "all of the text is held out: there is nothing to train on";
  if (val.tokens > 0 || job.valFraction === 0) return undefined;
  return "the documents are too few to hold one out: there will be no validation loss";
}

/** A separator cuts text files; jsonl has a document a line. */
async function requireText(inputs: readonly string[], format: InputFormat | "auto") {
  const { formatOf } = await import("../core/data/documents.ts");
  if (inputs.some((path) => formatOf(path, format) === "text")) return;
  throw new UserError(
    "--document-separator cuts text files, and there is none: jsonl has a document a line, " +
      "parquet one a row",
    {
      where: inputs[0],
      hint: "leave it out, or give --format text",
    },
  );
}
