/**
 * A fast encoder for the byte-level BPE of a `tokenizer.json`: the ids that @huggingface/tokenizers
 * gives, several times as fast. A file with any trait that is not known here has none.
 *
 * @module
 */
import { z } from "zod";
import { bpeEncoder, type BpeTables, type Merge } from "./bpe.ts";
import { byteCharacters } from "./byte_alphabet.ts";
import { cutterOf } from "./pieces.ts";

const none = z.union([z.null(), z.literal("")]).optional();
const addedToken = z.looseObject({
  id: z.number(),
  content: z.string(),
  special: z.boolean().default(false),
  lstrip: z.literal(false).default(false),
  rstrip: z.literal(false).default(false),
  normalized: z.boolean().default(false),
});
const vocabulary = z.custom<Record<string, number>>((value) =>
  typeof value === "object" && value !== null && !Array.isArray(value)
);
/** The files that are encoded here; what they are checked for already is not checked again. */
const knownFile = z.looseObject({
  added_tokens: z.array(addedToken),
  normalizer: z.looseObject({ type: z.literal("NFC") }).nullable(),
  pre_tokenizer: z.unknown(),
  // the others put special tokens around a text, which is not asked for here
  post_processor: z.looseObject({ type: z.enum(["ByteLevel", "TemplateProcessing"]) }).nullable(),
  decoder: z.looseObject({ type: z.literal("ByteLevel") }),
  model: z.looseObject({
    type: z.literal("BPE").optional(),
    vocab: vocabulary,
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    unk_token: z.null().optional(),
    end_of_word_suffix: none,
    continuing_subword_prefix: none,
    continuing_subword_suffix: none,
    byte_fallback: z.literal(false).optional(),
    ignore_merges: z.boolean().optional(),
  }),
});
type KnownFile = z.output<typeof knownFile>;

/** Text to ids. */
export type Encode = (text: string) => Uint32Array<ArrayBuffer>;

/** The encoder of a file that is known here, its special tokens left out. */
export function fastEncoder(file: unknown): Encode | undefined {
  const parsed = knownFile.safeParse(file);
  if (!parsed.success) return undefined;
  const { added_tokens, normalizer, pre_tokenizer } = parsed.data;
  const cut = cutterOf(pre_tokenizer);
  const tables = tablesOf(parsed.data);
  const added = added_tokens.filter(({ special }) => !special);
  const isNormalizedFirst = normalizer !== null && added.some(({ normalized }) => normalized);
  if (cut === undefined || tables === undefined || isNormalizedFirst) return undefined;
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const sectionsOf = sectionSplitter([...ids.keys()]);
  const encodePiece = bpeEncoder(tables);
  return (text) => {
    const out = idList(text.length);
    const take = (piece: string) => out.append(encodePiece(piece));
    for (const section of sectionsOf(text)) {
      const plain = normalizer === null || ids.has(section) ? section : section.normalize("NFC");
      const id = ids.get(plain);
      if (id !== undefined) out.append([id]);
      else cut(plain, take);
    }
    return out.take();
  };
}

/** Cuts a text before and after added tokens; the longest counts where several begin. */
function sectionSplitter(contents: string[]): (text: string) => string[] {
  if (contents.length === 0) return (text) => [text];
  const longestFirst = contents.toSorted((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map(RegExp.escape).join("|")})`);
  return (text) => text.split(pattern).filter((section) => section !== "");
}

/** The encoder's tables; none where a merge speaks of a token that the vocabulary lacks. */
function tablesOf({ model }: KnownFile): BpeTables | undefined {
  const ids = new Map(Object.entries(model.vocab));
  const merges: Merge[] = [];
  for (const merge of model.merges) {
    const [first, second] = typeof merge === "string" ? merge.split(" ", 2) : merge;
    const left = ids.get(first), right = ids.get(second), joined = ids.get(first + second);
    if (left === undefined || right === undefined || joined === undefined) return undefined;
    merges.push({ left, right, joined });
  }
  const byteIds = Array.from(byteCharacters.keys(), (character) => ids.get(character) ?? NaN);
  if (byteIds.includes(NaN)) return undefined;
  return { byteIds, merges, ...(model.ignore_merges ? { whole: ids } : {}) };
}

/** Ids in a row, in memory that grows with them. */
function idList(characters: number) {
  let list = new Uint32Array(16 + Math.ceil(characters / 3));
  let length = 0;
  return {
    append(ids: readonly number[]) {
      if (length + ids.length > list.length) {
        const larger = new Uint32Array(2 * (length + ids.length));
        larger.set(list);
        list = larger;
      }
      for (let i = 0; i < ids.length; i++) list[length++] = ids[i];
    },
    take: () => list.slice(0, length),
  };
}
