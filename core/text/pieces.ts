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

/** The cutter of a tokenizer.json's `pre_tokenizer`, if it is a way that is known here. */
export function cutterOf(stage: unknown): Cutter | undefined {
  const parsed = z.union([byteLevel, sequence]).safeParse(stage);
  if (!parsed.success) return undefined;
  const stages = parsed.data.type === "Sequence" ? parsed.data.pretokenizers : [parsed.data];
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
