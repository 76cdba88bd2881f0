/**
 * Small tokenizer.json files, made here: one of each family that is in use.
 *
 * @module
 */
import { byteCharacters } from "../../../core/text/byte_alphabet.ts";

const added = (id: number, content: string, special = true) => ({
  id,
  content,
  special,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

const ids = (tokens: string[]) => Object.fromEntries(tokens.map((token, id) => [token, id]));

/** GPT-2's kind: bytes, a few merges, a special token, an ordinary added token. */
export function byteLevelBpe() {
  const merges = [["t", "h"], ["th", "e"], ["Ġ", "the"], ["i", "n"], ["Ã", "©"]];
  const tokens = [...byteCharacters.keys(), ...merges.map(([a, b]) => a + b)];
  return {
    version: "1.0",
    added_tokens: [
      added(tokens.length, "<|endoftext|>"),
      added(tokens.length + 1, "<think>", false),
    ],
    normalizer: null,
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true },
    model: { type: "BPE", vocab: ids(tokens), merges },
  };
}

/** Llama 2's kind: a space is ▁, unknown characters fall back to bytes. */
export function byteFallbackBpe() {
  const bytes = Array.from(
    { length: 256 },
    (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const letters = ["▁", ..."abcdefghijklmnopqrstuvwxyz."];
  const merges = [["▁", "a"], ["t", "h"], ["th", "e"]];
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...letters, ...merges.map(([a, b]) => a + b)];
  return {
    added_tokens: [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: { type: "BPE", vocab: ids(tokens), merges, unk_token: "<unk>", byte_fallback: true },
  };
}

/** BERT's kind: words and ##pieces. */
export function wordPiece() {
  const tokens = ["[PAD]", "[UNK]", "play", "##ing", "##ed", "the", "a", "."];
  return {
    added_tokens: [added(0, "[PAD]"), added(1, "[UNK]")],
    normalizer: null,
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: null,
    decoder: { type: "WordPiece", prefix: "##", cleanup: false },
    model: {
      type: "WordPiece",
      vocab: ids(tokens),
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
  };
}

/** SentencePiece's Unigram, with a Metaspace that puts no space in front. */
export function unigram() {
  const pieces = ["<unk>", "▁", "▁to", "▁be", "to", "be", "t", "o", "b", "e"];
  return {
    added_tokens: [added(0, "<unk>")],
    normalizer: null,
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "never", split: true },
    post_processor: null,
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "never", split: true },
    model: {
      type: "Unigram",
      unk_id: 0,
      vocab: pieces.map((piece, i): [string, number] => [piece, -i - piece.length / 10]),
    },
  };
}
