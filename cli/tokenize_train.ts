/**
 * `quern tokenize train`: a tokenizer learned from text.
 *
 * @module
 */
import {
  Command,
  type CommandUnknownOpts,
  InvalidArgumentError,
  Option,
} from "@commander-js/extra-typings";
import type { TrainedTokenizer, TrainTokenizerJob } from "../core/data/train_tokenizer.ts";
import { plural, shellWord } from "../core/io/words.ts";
import { leastBpeVocab, mostBpeVocab } from "../core/text/bpe_limits.ts";
import { parsePath, wholeNumber } from "./options.ts";
import {
  defaultFields,
  fieldOption,
  formatOption,
  onErrorOption,
  textThreadsOption,
} from "./reading_options.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { formatBytes, formatCount, formatDuration } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
Learns a byte-level BPE, as GPT-2's: all bytes, then the commonest joins, then <|endoftext|>.
The file is an ordinary Hugging Face tokenizer.json. The same text gives the same file.

Examples:
  quern tokenize train corpus.txt --vocab-size 4096 --out tokenizer.json
  quern tokenize corpus.txt --tokenizer tokenizer.json --out data/corpus`;

/** The command with its options. */
export function tokenizeTrainCommand(): CommandUnknownOpts {
  return new Command("train")
    .summary("learn a byte-level BPE and write its tokenizer.json")
    .description("Learns a byte-level BPE from text and writes it as a tokenizer.json.")
    .argument("<inputs...>", "files, folders, patterns, or - for stdin")
    .addOption(
      new Option("--vocab-size <n>", "ids in all: 256 bytes, joins, end of text")
        .argParser(parseVocabSize).makeOptionMandatory(),
    )
    .requiredOption("--out <file>", "the tokenizer.json to write", parsePath)
    .addOption(formatOption())
    .addOption(fieldOption())
    .addOption(onErrorOption())
    .addOption(textThreadsOption())
    .option("--overwrite", "replace the file if it exists", false)
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (given, { vocabSize, out, overwrite, threads, json, quiet, ...reading }) => {
      const { expandInputs } = await import("../core/data/inputs.ts");
      const inputs = await expandInputs(given);
      const startedAt = performance.now();
      const job: TrainTokenizerJob = {
        inputs,
        reading: {
          format: reading.format,
          fields: reading.field ?? defaultFields,
          separator: undefined,
          onError: reading.onError,
        },
        vocabSize,
        out,
        ifExists: overwrite ? "replace" : "fail",
        threads,
      };
      const result = await runWithProgress(job, quiet ? "quiet" : "normal");
      const seconds = (performance.now() - startedAt) / 1000;
      if (json) console.log(JSON.stringify(summaryOf(job, result, seconds)));
      else if (!quiet) printFolded(describe(job, result, seconds));
      if (!quiet && result.tokenizer.vocabSize < vocabSize) {
        console.error(`note: the vocabulary is smaller than asked: no more pairs occur twice`);
      }
    });
}

function parseVocabSize(text: string): number {
  const size = wholeNumber(leastBpeVocab)(text);
  if (size > mostBpeVocab) throw new InvalidArgumentError(`Not at most ${mostBpeVocab}.`);
  return size;
}

/** Trains with a line on stderr; Ctrl-C leaves nothing behind. */
async function runWithProgress(job: TrainTokenizerJob, verbosity: "quiet" | "normal") {
  const { trainTokenizer } = await import("../core/data/train_tokenizer.ts");
  const progress = progressLine(verbosity);
  using interruption = listenForInterrupt("interrupted; nothing was written");
  try {
    return await trainTokenizer(job, {
      signal: interruption.signal,
      onSkip: ({ where, message }) => progress.note(`skipped ${where}: ${message}`),
      onProgress: ({ documents, bytes }) =>
        progress.update(() => `reading ${formatCount(documents)} documents  ${formatBytes(bytes)}`),
    });
  } finally {
    progress.end();
  }
}

/** What `--json` prints; the names are stable. */
function summaryOf({ out }: TrainTokenizerJob, result: TrainedTokenizer, seconds: number) {
  const { tokenizer, documents, bytes, pieces, skipped } = result;
  return {
    out,
    vocab_size: tokenizer.vocabSize,
    end_of_text: tokenizer.endOfText,
    hash: tokenizer.hash,
    documents,
    bytes,
    pieces,
    skipped,
    seconds: Number(seconds.toFixed(3)),
  };
}

function describe({ out }: TrainTokenizerJob, result: TrainedTokenizer, seconds: number): string {
  const { tokenizer, documents, bytes, pieces, skipped } = result;
  return [
    `${out}: byte-level BPE, vocabulary ${
      formatCount(tokenizer.vocabSize)
    }, end of text ${tokenizer.endOfText}`,
    `  learned from ${plural(documents, "document")}, ${formatBytes(bytes)}, ${
      plural(pieces, "different piece")
    }`,
    ...(skipped === 0 ? [] : [`  ${plural(skipped, "document")} skipped`]),
    `  ${formatDuration(seconds)}`,
    `use it: quern tokenize FILES --tokenizer ${shellWord(out)} --out FOLDER`,
  ].join("\n");
}
