/** Tokenizers in the form that Hugging Face's libraries read. */

import { byteCharacters } from "../text/byte_alphabet.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/**
 * The text of a `tokenizer.json`, or undefined where ids stand for no text. One of theirs stays as it is, to the byte; others
 * put `beginning` before each text, as tokenizer_config.json's add_bos_token alone does not.
 */
export function tokenizerJson(tokenizer: Tokenizer, beginning?: number): string | undefined {
  switch (tokenizer.kind) {
    case "huggingface":
      return tokenizer.file;
    case "ids":
      return undefined;
    case "byte": {
      const stage = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
      const whole = { ...stage, use_regex: false };
      return written(Object.fromEntries(byteCharacters), tokenizer, {
        pre_tokenizer: whole,
        decoder: whole,
        beginning,
      });
    }
    case "character":
      return written(
        Object.fromEntries([...JSON.parse(tokenizer.file).characters].map((c, id) => [c, id])),
        tokenizer,
        { pre_tokenizer: null, decoder: { type: "Fuse" }, beginning },
      );
  }
}

/** Of units that never merge. */
function written(
  vocab: Record<string, number>,
  tokenizer: Tokenizer,
  { pre_tokenizer, decoder, beginning }: {
    readonly pre_tokenizer: object | null;
    readonly decoder: object;
    readonly beginning: number | undefined;
  },
): string {
  const { specialTokens } = tokenizer, first = specialName(tokenizer, beginning);
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
    post_processor: first === null ? null : beginningWith(first, beginning!),
    decoder,
    model: { type: "BPE", vocab, merges: [] },
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

function beginningWith(name: string, id: number): object {
  const token = (type_id: number) => ({ SpecialToken: { id: name, type_id } });
  const text = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  return {
    type: "TemplateProcessing",
    single: [token(0), text("A", 0)],
    pair: [token(0), text("A", 0), token(1), text("B", 1)],
    special_tokens: { [name]: { id: name, ids: [id], tokens: [name] } },
  };
}

/** The name of a special token. */
export function specialName({ specialTokens }: Tokenizer, id: number | undefined): string | null {
  return [...specialTokens].find(([, other]) => other === id)?.[0] ?? null;
}
