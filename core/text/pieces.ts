/**
 * How text is cut into the pieces that byte-pair encoding works on, for the ways that are known
 * here; each gives the pieces that @huggingface/tokenizers gives.
 *
 * @module
 */
import { DigitsPreTokenizer, SplitPreTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";

/** GPT-2's pieces: letters, digits or signs with a space before them, and white space. */
export const gpt2Pattern =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Takes pieces, in order. */
type Take = (piece: string) => void;
/** Cuts a text. */
export type Cutter = (text: string, take: Take) => void;

/** Every character belongs to some piece, so a piece begins where the last one ends. */
export const cutAsGpt2: Cutter = (text, take) => {
  const pattern = new RegExp(gpt2Pattern);
  let start = 0;
  while (pattern.test(text)) {
    take(text.slice(start, pattern.lastIndex));
    start = pattern.lastIndex;
  }
};

const byteLevel = z.looseObject({
  type: z.literal("ByteLevel"),
  add_prefix_space: z.literal(false),
  use_regex: z.boolean().default(true),
});
const split = z.looseObject({
  type: z.literal("Split"),
  pattern: z.union([z.strictObject({ Regex: z.string() }), z.strictObject({ String: z.string() })]),
  behavior: z.literal("Isolated"),
  invert: z.literal(false),
});
const digits = z.looseObject({ type: z.literal("Digits"), individual_digits: z.boolean() });
const sequence = z.looseObject({
  type: z.literal("Sequence"),
  pretokenizers: z.array(z.union([byteLevel, split, digits])).min(1),
});

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const endings = "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const wordsAndDigits = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*${endings}`;

/** The patterns that are known to end a piece wherever `cutBetweenWords` cuts, with llama.cpp's names for them. */
const wordPatterns: ReadonlyMap<string, string> = new Map([
  [gpt2Pattern.source, "gpt-2"],
  // and GPT-4
  [wordsAndDigits("\\p{N}{1,3}"), "llama-bpe"],
  // and Qwen 3
  [wordsAndDigits("\\p{N}"), "qwen2"],
  // and Llama 4
  [
    `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${contractions}?|` +
    `[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${contractions}?|` +
    `\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*${endings}`,
    "gpt-4o",
  ],
]);

/** What llama.cpp calls the way in which a tokenizer.json's `pre_tokenizer` cuts; undefined where it has no name for it. */
export function preTokenizerName(stage: unknown): string | undefined {
  const parsed = z.union([byteLevel, sequence]).safeParse(stage);
  if (!parsed.success) return undefined;
  const stages = parsed.data.type === "Sequence" ? parsed.data.pretokenizers : [parsed.data];
  const [first, last] = stages;
  if (stages.length === 1) {
    return first.type === "ByteLevel" && first.use_regex ? "gpt-2" : undefined;
  }
  if (stages.length > 2 || last.type !== "ByteLevel") return undefined;
  if (first.type === "Digits") {
    return first.individual_digits && last.use_regex ? "smollm" : undefined;
  }
  const isAlone = first.type === "Split" && "Regex" in first.pattern && !last.use_regex;
  return isAlone ? wordPatterns.get((first.pattern as { Regex: string }).Regex) : undefined;
}

/** The `pre_tokenizer` that a name of llama.cpp's stands for; undefined where it is not known here. */
export function preTokenizerStage(name: string): object | undefined {
  const byteLevel = (use_regex: boolean) => (
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex }
  );
  const inTurn = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers });
  if (name === "gpt-2") return byteLevel(true);
  if (name === "smollm") {
    return inTurn({ type: "Digits", individual_digits: true }, byteLevel(true));
  }
  const [Regex] = [...wordPatterns].find(([, known]) => known === name) ?? [];
  if (Regex === undefined) return undefined;
  const split = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
  return inTurn(split, byteLevel(false));
}

/** How a known `pre_tokenizer` cuts. */
export interface KnownCutter {
  readonly cut: Cutter;
  /** Whether a piece ends wherever `cutBetweenWords` cuts. */
  readonly endsAtWords: boolean;
}

/** The cutter of a tokenizer.json's `pre_tokenizer`, if it is a way that is known here. */
export function cutterOf(stage: unknown): KnownCutter | undefined {
  const parsed = z.union([byteLevel, sequence]).safeParse(stage);
  if (!parsed.success) return undefined;
  const stages = parsed.data.type === "Sequence" ? parsed.data.pretokenizers : [parsed.data];
  const cut = cutThrough(stages);
  // digits are cut off whatever stands beside them; what later stages do is within the pieces
  const first = stages.find(({ type }) => type !== "Digits");
  const endsAtWords = first?.type === "ByteLevel"
    ? first.use_regex
    : first?.type === "Split" && "Regex" in first.pattern && wordPatterns.has(first.pattern.Regex);
  return cut && { cut, endsAtWords };
}

type Stage = z.output<typeof sequence>["pretokenizers"][number];

/** One stage after the other, each within the pieces of the one before. */
function cutThrough(stages: readonly Stage[]): Cutter | undefined {
  const last = stages[stages.length - 1];
  if (last.type !== "ByteLevel") return undefined;
  const cutLast: Cutter = last.use_regex ? cutAsGpt2 : (text, take) => take(text);
  return stages.slice(0, -1).reduceRight<Cutter | undefined>((cutRest, stage) => {
    if (cutRest === undefined || stage.type === "ByteLevel") return undefined;
    const splitter = stage.type === "Split"
      ? new SplitPreTokenizer({ ...stage, behavior: "Isolated", invert: false })
      : new DigitsPreTokenizer({ ...stage, individual_digits: stage.individual_digits });
    return (text, take) => {
      for (const part of splitter.pre_tokenize_text(text)) cutRest(part, take);
    };
  }, cutLast);
}
