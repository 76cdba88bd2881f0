/**
 * Any Hugging Face `tokenizer.json`, through @huggingface/tokenizers, with that library's silent
 * faults corrected or refused. Corrected here: decoding nothing; clean-up that deletes real spaces;
 * a first space lost under Metaspace's `prepend_scheme: never`; special tokens spelled out in
 * ordinary text.
 *
 * @module
 */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { z } from "zod";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { byteCharacters } from "./byte_alphabet.ts";
import { type Piece, spaceMark } from "./byte_table.ts";
import { fastEncoder } from "./fast_bpe.ts";
import { checkId, decodeBytes, sha256, type TextPlace, type Tokenizer } from "./tokenizer.ts";

/** What ends a document in the tokenizers that are in use, the surest name first. */
const endOfTextNames = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>"];

const addedToken = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean().default(false),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
});
const stageSchema = z.looseObject({ type: z.string() });
const stage = stageSchema.nullable().default(null);
const vocabulary = z.union([
  z.record(z.string(), z.int().min(0)),
  z.array(z.tuple([z.string(), z.number()])), // Unigram: the id is the place
]);
/** The parts of a tokenizer.json that are looked at here. */
const fileSchema = z.looseObject({
  added_tokens: z.array(addedToken).default([]),
  normalizer: stage,
  pre_tokenizer: stage,
  post_processor: stage,
  decoder: stage,
  model: z.looseObject({
    type: z.string().optional(),
    vocab: vocabulary,
    unk_token: z.string().nullish(),
    byte_fallback: z.boolean().default(false),
    dropout: z.number().nullish(),
  }),
});
type TokenizerFile = z.output<typeof fileSchema>;

/**
 * The tokenizer that the text of a `tokenizer.json` describes; `where` names the file in errors.
 */
export function huggingfaceTokenizer(text: string, where: string): Tokenizer {
  const parsed = fileSchema.safeParse(JSON.parse(text));
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    throw new UserError(`not a tokenizer.json: ${path.join(".")}: ${message}`, { where });
  }
  const file = parsed.data;
  const tokens = tokensById(file);
  const fault = faultOf(file, tokens);
  if (fault !== undefined) {
    throw new UserError(fault, {
      where,
      hint: "it would give other ids or another text than the original; choose another tokenizer",
      exitCode: exitCodes.failed,
    });
  }
  const special = new Map(
    file.added_tokens.filter((t) => t.special).map((t) => [t.content, t.id] as const),
  );
  const vocabSize = tokens.length;
  const bytesOf = isByteLevel(file) ? tokenBytes(file, tokens) : undefined;
  const specialIds = new Set(special.values());
  // a large file takes the library a second to open
  const fast = bytesOf === undefined ? undefined : fastEncoder(file);
  const library = lazily(() => openLibrary(file, where));
  const unprefixed = lazily(() => openLibrary(withoutPrefix(file), where));
  if (fast === undefined) library();
  const encode = (text: string, place: TextPlace = "start") => {
    if (text === "") return new Uint32Array();
    if (place === "behind_text") return encodeWith(unprefixed(), text, where);
    if (place === "start") return encodeWith(library(), text, where);
    return encodeWith(library(), sentinel + text, where).slice(1);
  };
  return {
    kind: "huggingface",
    vocabSize,
    encode: fast?.encode ?? encode,
    lastCut: fast?.lastCut,
    decode: bytesOf === undefined
      ? (ids) => decodeWith(library(), ids, specialIds, vocabSize)
      : (ids) => decodeBytes(ids, bytesOf, vocabSize),
    bytesOf,
    ...(marksSpaces(file.decoder) && { pieces: lazily(() => piecesOf(file, tokens, specialIds)) }),
    endOfText: endOfTextNames.map((name) => special.get(name)).find((id) => id !== undefined),
    specialTokens: special,
    swallows: new Map(
      file.added_tokens.filter(({ special, lstrip, rstrip }) => special && (lstrip || rstrip))
        .map(({ id, lstrip, rstrip }) => [id, { left: lstrip, right: rstrip }]),
    ),
    file: text,
    hash: sha256(text),
  };
}

function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => made ??= make();
}

/** Stands for any special token before a text, and in no text: these are no characters. */
const sentinel = "\u{10ffff}\ufffe\u{10ffff}";

/** The file without the space that it puts in front of a text. */
function withoutPrefix(file: TokenizerFile): TokenizerFile {
  const mend = (stage: TokenizerFile["normalizer"]): TokenizerFile["normalizer"] => {
    if (stage === null || stage.type === "Prepend") return null;
    const [list] = ["normalizers", "pretokenizers"].filter((name) => Array.isArray(stage[name]));
    if (list !== undefined) {
      const stages = z.array(stageSchema).parse(stage[list]).map(mend);
      return { ...stage, [list]: stages.filter((stage) => stage !== null) };
    }
    if (stage.type === "Metaspace") return { ...stage, prepend_scheme: "never" };
    return stage.add_prefix_space === true ? { ...stage, add_prefix_space: false } : stage;
  };
  const { normalizer, pre_tokenizer } = file;
  return { ...file, normalizer: mend(normalizer), pre_tokenizer: mend(pre_tokenizer) };
}

/**
 * Builds the library's object of a file whose special tokens it does not get to see, but for the
 * sentinel.
 */
function openLibrary(file: TokenizerFile, where: string): Library {
  const shown = {
    id: tokensById(file).length,
    content: sentinel,
    special: true,
    normalized: false,
  };
  const added_tokens = [...file.added_tokens.filter((token) => !token.special), shown];
  const decoder = keepFirstSpace(file.decoder);
  try {
    return new Library({ ...file, added_tokens, decoder }, {});
  } catch (error) {
    throw new UserError(`this tokenizer is not supported: ${messageOf(error)}`, {
      where,
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
}

/** The library's Metaspace decoder always drops a first space; where none was put, none may go. */
function keepFirstSpace(decoder: TokenizerFile["decoder"]): TokenizerFile["decoder"] {
  if (decoder?.type !== "Metaspace" || decoder.prepend_scheme !== "never") return decoder;
  const pattern = { String: decoder.replacement ?? "\u2581" };
  return { type: "Sequence", decoders: [{ type: "Replace", pattern, content: " " }] };
}

function encodeWith(library: Library, text: string, where: string): Uint32Array<ArrayBuffer> {
  const { ids } = library.encode(text, { add_special_tokens: false });
  // typed as number[], but a token outside the vocabulary of a model without <unk> comes as
  // undefined
  const hole = ids.findIndex((id) => !Number.isInteger(id));
  if (hole < 0) return Uint32Array.from(ids);
  const token = JSON.stringify(library.tokenize(text)[hole]);
  throw new UserError(`it has no token for ${token}, and none for unknown text`, {
    where,
    hint: "choose a tokenizer that covers this text",
    exitCode: exitCodes.failed,
  });
}

function decodeWith(
  library: Library,
  ids: Iterable<number>,
  special: ReadonlySet<number>,
  vocabSize: number,
): string {
  const ordinary = [...ids].filter((id) => {
    checkId(id, vocabSize);
    return !special.has(id);
  });
  if (ordinary.length === 0) return ""; // the library throws
  return library.decode(ordinary, { clean_up_tokenization_spaces: false });
}

/** Token texts by id; holes of the vocabulary are undefined. */
function tokensById(file: TokenizerFile): (string | undefined)[] {
  const { vocab } = file.model;
  const tokens: (string | undefined)[] = [];
  if (Array.isArray(vocab)) vocab.forEach(([token], id) => tokens[id] = token);
  else for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  for (const { content, id } of file.added_tokens) tokens[id] ??= content;
  return tokens;
}

/** Why the library would silently do something else than the original, if it would. */
function faultOf(file: TokenizerFile, tokens: readonly (string | undefined)[]): string | undefined {
  const { model, added_tokens } = file;
  const ids = new Map<string, number>(); // where a token stands first
  tokens.forEach((token, id) => {
    if (token !== undefined && !ids.has(token)) ids.set(token, id);
  });
  for (const { content, id, single_word } of added_tokens) {
    const shown = JSON.stringify(content);
    if (single_word) return `the added token ${shown} is "single_word", which is not supported`;
    if (tokens[id] !== content) {
      return `the added token ${shown} has id ${id}, which the vocabulary gives to ` +
        JSON.stringify(tokens[id]);
    }
    if (ids.get(content) !== id) {
      return `the added token ${shown} has id ${id} but stands in the vocabulary as ${
        ids.get(content)
      }`;
    }
  }
  if (model.type === "Unigram" && model.byte_fallback) {
    return "a Unigram model with byte_fallback is not supported: unknown characters would be lost";
  }
  if (model.dropout) return `its BPE dropout of ${model.dropout} would make encoding random`;
  const isBpe = model.type === "BPE" || (model.type === undefined && !Array.isArray(model.vocab));
  if (!isBpe || model.unk_token != null || model.byte_fallback) return undefined;
  if (!splitsIntoBytes(file)) {
    return "characters outside its vocabulary would vanish: it has no unk_token";
  }
  const missing = [...byteCharacters.keys()].filter((character) => !ids.has(character));
  return missing.length === 0
    ? undefined
    : `${missing.length} of the 256 bytes are not in its vocabulary: text with them would vanish`;
}

/** Whether the tokens' bytes, one after the other, are the text. */
function isByteLevel({ decoder }: TokenizerFile): boolean {
  return decoder?.type === "ByteLevel";
}

/** Whether tokens are SentencePiece's, with a mark for spaces. */
function marksSpaces(decoder: TokenizerFile["decoder"]): boolean {
  const replaced = z.looseObject({
    type: z.literal("Replace"),
    pattern: z.looseObject({ String: z.literal(spaceMark) }),
    content: z.literal(" "),
  });
  const metaspace = z.looseObject({
    type: z.literal("Metaspace"),
    replacement: z.literal(spaceMark).default(spaceMark),
  });
  const parts: readonly unknown[] = Array.isArray(decoder?.decoders) ? decoder.decoders : [decoder];
  return parts.some((part) => z.union([replaced, metaspace]).safeParse(part).success);
}

function piecesOf(
  { model, added_tokens }: TokenizerFile,
  tokens: readonly (string | undefined)[],
  special: ReadonlySet<number>,
): Piece[] {
  const unigramUnknown = z.looseObject({ unk_id: z.int() }).safeParse(model).data?.unk_id;
  const added = new Set(added_tokens.map(({ id }) => id));
  const kindOf = (text: string | undefined, id: number): Piece["kind"] => {
    if (text === undefined) return "unused";
    if (id === unigramUnknown || text === model.unk_token) return "unknown";
    if (special.has(id)) return "control";
    return model.byte_fallback && !added.has(id) && /^<0x[0-9A-F]{2}>$/.test(text)
      ? "byte"
      : "normal";
  };
  return Array.from(tokens, (text, id) => ({ text: text ?? "", kind: kindOf(text, id) }));
}

/** Whether the model is given bytes, each as a character of GPT-2's alphabet. */
function splitsIntoBytes({ pre_tokenizer: stage }: TokenizerFile): boolean {
  const parts = Array.isArray(stage?.pretokenizers) ? stage.pretokenizers : [stage];
  return parts.some((part) => part?.type === "ByteLevel");
}

/** The bytes of each token, made when first asked for. */
function tokenBytes(file: TokenizerFile, tokens: readonly (string | undefined)[]) {
  const added = new Map(file.added_tokens.map((token) => [token.id, token.special]));
  const cache: Uint8Array[] = [];
  return (id: number): Uint8Array => {
    const token = added.get(id) === true ? "" : tokens[id] ?? "";
    return cache[id] ??= added.has(id) ? new TextEncoder().encode(token) : byteLevelBytes(token);
  };
}

/** The bytes behind byte-level characters; a token with any other character stands for itself. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = byteCharacters.get(character);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return new Uint8Array(bytes);
}
