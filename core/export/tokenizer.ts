/** Tokenizers in the form that Hugging Face's libraries read. */

import { byteCharacters } from "../text/byte_alphabet.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** The text of a `tokenizer.json`, or undefined where ids stand for no text. One of theirs stays as it is, to the byte. */
export function tokenizerJson(tokenizer: Tokenizer): string | undefined {
  switch (tokenizer.kind) {
    case "huggingface":
      return tokenizer.file;
    case "ids":
      return undefined;
    case "byte": {
      const stage = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
      const whole = { ...stage, use_regex: false };
      return written(Object.fromEntries(byteCharacters), tokenizer, whole, whole);
    }
    case "character":
      return written(
        Object.fromEntries([...JSON.parse(tokenizer.file).characters].map((c, id) => [c, id])),
        tokenizer,
        null,
        { type: "Fuse" },
      );
  }
}

/** Of units that never merge. */
function written(
  vocab: Record<string, number>,
  { specialTokens }: Tokenizer,
  pre_tokenizer: object | null,
  decoder: object,
): string {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  const file = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [...specialTokens].map(([content, id]) => ({
      id,
      content,
      ...flags,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer,
    post_processor: null,
    decoder,
    model: { type: "BPE", vocab, merges: [] },
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/** The name of a special token. */
export function specialName({ specialTokens }: Tokenizer, id: number | undefined): string | null {
  return [...specialTokens].find(([, other]) => other === id)?.[0] ?? null;
}
