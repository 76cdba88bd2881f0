/** Tokenizers that know few characters, on texts that have others. */

import { UserError } from "../io/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

export interface LenientTokenizer
  extends Pick<Tokenizer, "encode" | "endOfText" | "specialTokens"> {
  /** Characters that were left out so far, with how often. */
  readonly unknown: ReadonlyMap<string, number>;
}

/** Leaves out, and counts, characters that the tokenizer cannot encode, where others stop. */
export function lenient(tokenizer: Tokenizer): LenientTokenizer {
  const unknown = new Map<string, number>(), known = new Map<string, boolean>();
  const tryEncode = (text: string) => {
    try {
      return tokenizer.encode(text);
    } catch (error) {
      if (error instanceof UserError) return undefined;
      throw error;
    }
  };
  const isKnown = (character: string) => {
    let found = known.get(character);
    if (found === undefined) known.set(character, found = tryEncode(character) !== undefined);
    return found;
  };
  return {
    unknown,
    endOfText: tokenizer.endOfText,
    specialTokens: tokenizer.specialTokens,
    encode(text) {
      const ids = tryEncode(text);
      if (ids) return ids;
      const kept = [...text].filter((character) => {
        if (isKnown(character)) return true;
        unknown.set(character, (unknown.get(character) ?? 0) + 1);
        return false;
      });
      return tokenizer.encode(kept.join(""));
    },
  };
}
