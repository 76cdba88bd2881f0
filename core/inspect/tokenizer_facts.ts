/** What there is to say of a tokenizer. */

import { byteTableOf, utf8Length } from "../text/byte_table.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { tokenText } from "./shards.ts";

interface Token {
  readonly id: number;
  readonly text: string;
}

export interface TokenizerFacts {
  readonly kind: string;
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  readonly specials: readonly { readonly name: string; readonly id: number }[];
  /** Of tokens with some, a leading space included; undefined where nobody knows. */
  readonly bytes: {
    readonly mean: number;
    readonly most: number;
    readonly histogram: readonly { readonly bytes: number; readonly tokens: number }[];
  } | undefined;
  readonly longest: readonly Token[];
}

const shownLongest = 10;

export function tokenizerFacts(tokenizer: Tokenizer): TokenizerFacts {
  const { kind, vocabSize, endOfText, specialTokens } = tokenizer;
  const special = new Set(specialTokens.values());
  const texts = Array.from({ length: vocabSize }, (_, id) => tokenText(tokenizer, id));
  const ids = texts.map((_, id) => id).filter((id) => !special.has(id));
  const ordered = ids.sort((a, b) => [...texts[b]].length - [...texts[a]].length || a - b);
  return {
    kind,
    vocabSize,
    endOfText,
    specials: [...specialTokens].map(([name, id]) => ({ name, id })),
    bytes: bytesOf(tokenizer),
    longest: ordered.slice(0, shownLongest).map((id) => ({ id, text: texts[id] })),
  };
}

export interface EncodedText {
  readonly tokens: readonly Token[];
  /** Of the text. */
  readonly bytes: number;
  /** Whether the tokens are decoded to the same text. */
  readonly isLossless: boolean;
}

export function encodedText(tokenizer: Tokenizer, text: string): EncodedText {
  const ids = [...tokenizer.encode(text)];
  return {
    tokens: ids.map((id) => ({ id, text: tokenText(tokenizer, id) })),
    bytes: utf8Length(text),
    isLossless: tokenizer.decode(ids) === text,
  };
}

function bytesOf(tokenizer: Tokenizer): TokenizerFacts["bytes"] {
  const table = byteTableOf(tokenizer);
  if (!table) return undefined;
  const sizes = [...table.base].map((bytes, id) => bytes + table.leadingSpace[id])
    .filter((bytes) => bytes > 0);
  const counts = new Map<number, number>();
  for (const size of sizes) counts.set(size, (counts.get(size) ?? 0) + 1);
  return {
    mean: sizes.reduce((sum, size) => sum + size, 0) / sizes.length,
    most: Math.max(...counts.keys()),
    histogram: [...counts].map(([bytes, tokens]) => ({ bytes, tokens }))
      .sort((a, b) => a.bytes - b.bytes),
  };
}
