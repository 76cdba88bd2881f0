/**
 * `quern eval --bits-per-byte`: how well a model foretells a text, whatever its tokenizer.
 *
 * @module
 */
import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { MeasuredBits } from "../core/eval/measure_bits.ts";
import { plural, significant } from "../core/io/words.ts";
import { type DeviceChoice, openChosenDevice } from "./device_options.ts";
import { parsePath, parseText, wholeNumber } from "./options.ts";
import { fieldOption } from "./reading_options.ts";
import { formatCount, formatDuration } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";
import { printFolded } from "./ui/terminal.ts";

export const bitsHelp = `\
--bits-per-byte sums the model's surprise at each token of a text, or of a folder of token shards, and divides
by the text's bytes: models with different tokenizers compare. Rows of the model's context lie side by side,
documents apart where the model was trained so. With --stride windows overlap: each ends that many tokens after
the one before and counts what is new, so that all tokens but the first have much before them.
--counting once counts every token once. challenge is parameter-golf's: the split is one row of tokens; without
--stride a last row that is not whole is left out, with it the last tokens are counted by every window that
reaches the end, with ever less before them. harness is lm-evaluation-harness's: each document alone behind the
token that begins one, its end not counted, windows that do not overlap, the last one filled up backwards.
Bytes are those of each token (a special token has none). SentencePiece's mark of a space is one byte, and none
where a text begins.`;

export const bitsExamples = `\
  quern eval runs/shakespeare --bits-per-byte data/shakespeare
  quern eval runs/shakespeare --bits-per-byte sonnets.txt --stride 16
  quern eval runs/recycled --bits-per-byte fineweb --stride 64 --counting challenge --json`;

/** Its options. */
export function addBitsOptions(command: CommandUnknownOpts): void {
  command
    .optionsGroup("Bits per byte:")
    .option(
      "--bits-per-byte <path>",
      "measure on text files (also a folder or pattern) or token shards",
      parsePath,
    )
    .addOption(
      new Option("--stride <n>", "slide the window by so many tokens (default: the context)")
        .argParser(wholeNumber(1)),
    )
    .addOption(
      new Option("--counting <way>", "each token once, or as others count")
        .choices(["once", "challenge", "harness"] as const).default("once" as const),
    )
    .addOption(
      new Option("--context <n>", "tokens of a window (default: as trained)")
        .argParser(wholeNumber(1)),
    )
    .addOption(
      new Option("--split <name>", "which part of token shards (default: val)")
        .choices(["val", "train"] as const),
    )
    .addOption(
      new Option("--max-tokens <n>", "measure the first so many alone (default: all)")
        .argParser(wholeNumber(1)),
    )
    .addOption(fieldOption())
    .option(
      "--document-separator <text>",
      "what stands between documents of a text file; \\n is a line feed",
      parseText,
    );
}

/** What the options come to. */
export interface BitsChoice extends DeviceChoice {
  readonly bitsPerByte: string;
  readonly stride?: number | undefined;
  readonly counting: "once" | "challenge" | "harness";
  readonly context?: number | undefined;
  readonly split?: "val" | "train" | undefined;
  readonly maxTokens?: number | undefined;
  readonly batch?: number | undefined;
  readonly field?: readonly string[] | undefined;
  readonly documentSeparator?: string | undefined;
  readonly checkpoint?: string | undefined;
  readonly average?: "ema" | "swa" | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Measures, and prints what was found. */
export async function evaluateBits(path: string, choice: BitsChoice): Promise<void> {
  const { openAny } = await import("../core/open/mod.ts");
  const { measureBits } = await import("../core/eval/measure_bits.ts");
  const { checkpoint, average } = choice;
  using opened = await openAny(path, { checkpoint, average });
  await using device = await openChosenDevice(choice);
  const progress = progressLine(choice.quiet ? "quiet" : "normal");
  const found = await measureBits(
    opened,
    device,
    {
      path: choice.bitsPerByte,
      split: choice.split,
      fields: choice.field,
      separator: choice.documentSeparator,
      counting: choice.counting,
      stride: choice.stride,
      context: choice.context,
      rows: choice.batch,
      maxTargets: choice.maxTokens,
    },
    (done, all) =>
      progress.update(() =>
        `measured ${formatCount(done)} of ${plural(all, "token")}, ${
          Math.floor(100 * done / all)
        } %`
      ),
  ).finally(() => progress.end());
  const about = { checkpoint: opened.checkpoint, step: opened.step, choice };
  if (choice.json) console.log(JSON.stringify(jsonOf(found, about)));
  else printFolded(describe(found, about));
  if (!choice.quiet) {
    const { targets, seconds } = found;
    console.error(
      `measured in ${formatDuration(seconds)}, ${formatCount(targets / seconds)} tokens/s`,
    );
  }
}

interface About {
  readonly checkpoint: string;
  readonly step: number;
  readonly choice: BitsChoice;
}

function describe(found: MeasuredBits, { checkpoint, step, choice }: About): string {
  const { loss, perplexity, bytes, bits_per_byte, byte_perplexity, words, word_perplexity } = found;
  const line = (name: string, value: string, note = "") =>
    `${name.padEnd(18)} ${value.padStart(10)}${note && `  ${note}`}`;
  const isKnown = Number.isFinite(bytes);
  const over = isKnown ? formatCount(bytes) : "nobody knows how many";
  return [
    `${checkpoint} (step ${formatCount(step)}) on ${choice.bitsPerByte}`,
    line("bits per byte", isKnown ? bits_per_byte.toFixed(4) : "not known", `${over} bytes`),
    line("loss", loss.toFixed(4), `nats a token, ${plural(found.targets, "token")}`),
    line("perplexity", significant(perplexity), "a token"),
    ...isKnown ? [line("byte perplexity", significant(byte_perplexity))] : [],
    ...words === undefined
      ? []
      : [line("word perplexity", significant(word_perplexity!), plural(words, "word"))],
    `counted            ${countedText(found)}`,
  ].join("\n");
}

function countedText({ options: { counting, stride, length, packing } }: MeasuredBits): string {
  const rows = stride === undefined
    ? `rows of ${length} side by side`
    : `windows of ${length} that move by ${stride}`;
  const asTrained = packing === "documents" ? "each document alone" : "documents regardless";
  switch (counting) {
    case "once":
      return `every token once, ${rows}, ${asTrained}, as trained`;
    case "challenge":
      return stride === undefined
        ? `as parameter-golf does: whole ${rows}`
        : `as parameter-golf does: ${rows}; the last ones count the end again`;
    case "harness":
      return `as lm-evaluation-harness does: ${rows}, each document alone, without its end`;
  }
}

/** What `--json` prints; the names are stable, those of metrics lm-evaluation-harness's. */
function jsonOf({ options, ...found }: MeasuredBits, { checkpoint, step, choice }: About) {
  const known = (value: number | undefined) => Number.isFinite(value) ? value : null;
  return {
    checkpoint,
    step,
    data: choice.bitsPerByte,
    counting: options.counting,
    context: options.length,
    stride: options.stride ?? options.length,
    packing: options.packing,
    documents: found.documents,
    targets: found.targets,
    bytes: known(found.bytes),
    words: known(found.words),
    nats: found.nats,
    loss: found.loss,
    perplexity: found.perplexity,
    bits_per_byte: known(found.bits_per_byte),
    byte_perplexity: known(found.byte_perplexity),
    word_perplexity: known(found.word_perplexity),
    seconds: found.seconds,
  };
}
