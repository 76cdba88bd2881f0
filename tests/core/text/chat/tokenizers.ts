/**
 * A small byte-level tokenizer with tokens that span the line feeds of a chat, and ChatML's special
 * tokens.
 *
 * @module
 */
import { byteCharacters } from "../../../../core/text/byte_alphabet.ts";

/** Its `tokenizer.json`. */
export function chatBpe() {
  const merges = [["e", "r"], ["Ċ", "Ċ"], ["u", "s"], ["us", "er"], ["l", "l"], ["Ġ", "a"]];
  const tokens = [...byteCharacters.keys(), ...merges.map(([a, b]) => a + b)];
  const special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return {
    version: "1.0",
    added_tokens: [
      ...special.map((content, i) => ({ id: tokens.length + i, content, ...flags, special: true })),
      { id: tokens.length + special.length, content: "<think>", ...flags, special: false },
    ],
    normalizer: null,
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}
