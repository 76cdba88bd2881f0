/**
 * A fast encoder for the byte-level BPE of a `tokenizer.json`: the ids that @huggingface/tokenizers
 * gives, several times as fast. A file with any trait that is not known here has none.
 *
 * @module
 */
import { z } from "zod";
import { bpeEncoder, type BpeTables, type Merge } from "./bpe.ts";
import { byteCharacters } from "./byte_alphabet.ts";
import { cutBetweenWords, type LastCut } from "./cuts.ts";
import { cutterOf } from "./pieces.ts";
import { sectionSplitter } from "./sections.ts";

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

/** Text to ids, and where a text may be cut. */
export interface FastEncoder {
  encode(text: string): Uint32Array<ArrayBuffer>;
  readonly lastCut: LastCut | undefined;
}

/** The encoder of a file that is known here, its special tokens left out. */
export function fastEncoder(file: unknown): FastEncoder | undefined {
  const parsed = knownFile.safeParse(file);
  if (!parsed.success) return undefined;
  const { added_tokens, normalizer, pre_tokenizer } = parsed.data;
  const cutter = cutterOf(pre_tokenizer);
  const tables = tablesOf(parsed.data);
  const added = added_tokens.filter(({ special }) => !special);
  const isNormalizedFirst = normalizer !== null && added.some(({ normalized }) => normalized);
  if (cutter === undefined || tables === undefined || isNormalizedFirst) return undefined;
  const { cut, endsAtWords } = cutter;
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const sectionsOf = sectionSplitter([...ids.keys()]);
  const encodePiece = bpeEncoder(tables);
  const out = idList();
  const encode = (text: string) => {
    const take = (piece: string) => out.append(encodePiece(piece));
    for (const section of sectionsOf(text)) {
      if (section === "") continue;
      const plain = normalizer === null || ids.has(section) ? section : section.normalize("NFC");
      const id = ids.get(plain);
      if (id !== undefined) out.append([id]);
      else cut(plain, take);
    }
    return out.take();
  };
  // above, a section that NFC turns into an added token is that token: a cut must not make one
  const isNormalForm = normalizer === null || added.every(({ content }) => isPlain(content));
  const lastCut = endsAtWords && isNormalForm ? cutBetweenWords([...ids.keys()]) : undefined;
  return { encode, lastCut };
}

/** Whether a text is all that NFC turns into it: ASCII without the signs that others turn into. */
function isPlain(content: string): boolean {
  return /^[\n -~]*$/.test(content) && !/[K`;]/.test(content);
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

/** Ids in a row, in memory that grows with them and is used again. */
function idList() {
  let list = new Uint32Array(1024);
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
    /** The ids; the list begins anew. */
    take() {
      const ids = list.slice(0, length);
      length = 0;
      return ids;
    },
  };
}
