/**
 * Learns a byte-level BPE vocabulary: counts the pieces of a text, then joins the commonest pair of
 * neighbours again and again. Ties go to the smaller ids, so the same counts give the same file.
 *
 * @module
 */
import { byteCharacters } from "./byte_alphabet.ts";
import type { Merge } from "./bpe.ts";
import { leastBpeVocab, mostBpeVocab } from "./bpe_limits.ts";
import { Heap } from "./heap.ts";
import { cutAsGpt2 } from "./pieces.ts";
import { endOfTextName } from "./tokenizer.ts";

/** Pieces counted at most, and the longest that is; rare ones make room, so memory is bounded. */
export const countLimits = { pieces: 2 ** 20, characters: 256 };

/** How often each piece occurs in the texts that were added. */
export class PieceCounts {
  readonly #counts = new Map<string, number>();
  readonly #limit: number;

  constructor(limit: number = countLimits.pieces) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#counts.size;
  }

  /** Counts the pieces of a text. */
  add(text: string): void {
    cutAsGpt2(text, (piece) => this.#addPiece(piece, 1));
    this.#makeRoom();
  }

  /** Adds pieces that were counted elsewhere. */
  addAll(pieces: readonly string[], counts: ArrayLike<number>): void {
    pieces.forEach((piece, i) => this.#addPiece(piece, counts[i]));
    this.#makeRoom();
  }

  entries(): Iterable<[string, number]> {
    return this.#counts;
  }

  #addPiece(piece: string, times: number): void {
    const count = this.#counts.get(piece);
    if (count !== undefined) this.#counts.set(piece, count + times);
    else if (piece.length <= countLimits.characters) {
      this.#counts.set(Array.from(piece).join(""), times); // a slice would keep its whole text alive
    }
  }

  #makeRoom(): void {
    for (let least = 1; this.#counts.size > this.#limit; least *= 2) this.#dropUpTo(least);
  }

  #dropUpTo(least: number): void {
    for (const [piece, count] of this.#counts) if (count <= least) this.#counts.delete(piece);
  }
}

/** Two ids as one number. */
const pairKey = (left: number, right: number) => left * mostBpeVocab + right;

interface Candidate {
  readonly key: number;
  readonly count: number;
}

/** The merges of a vocabulary of at most `vocabSize`; fewer where no pair occurs twice. */
export function trainMerges(pieces: Iterable<[string, number]>, vocabSize: number): Merge[] {
  const words = readWords(pieces);
  const pairs = new PairTable();
  words.forEach(({ ids, count }, word) => {
    for (let i = 1; i < ids.length; i++) pairs.change(ids[i - 1], ids[i], count, word);
  });
  pairs.offerChanged();
  const merges: Merge[] = [];
  while (merges.length < vocabSize - leastBpeVocab) {
    const key = pairs.takeCommonest();
    if (key === undefined) break;
    const merge = {
      left: Math.floor(key / mostBpeVocab),
      right: key % mostBpeVocab,
      joined: byteCharacters.size + merges.length,
    };
    for (const word of pairs.takeWords(key)) mergeWord(words[word], word, merge, pairs);
    pairs.offerChanged();
    merges.push(merge);
  }
  return merges;
}

interface Word {
  ids: number[];
  readonly count: number;
}

/** The pieces of two bytes and more, as ids; a byte's id is its value. */
function readWords(pieces: Iterable<[string, number]>): Word[] {
  const utf8 = new TextEncoder();
  return Array.from(pieces, ([piece, count]) => ({ ids: [...utf8.encode(piece)], count }))
    .filter(({ ids }) => ids.length > 1);
}

/** Joins a pair in one word, and counts the neighbours that are lost and won. */
function mergeWord(word: Word, index: number, merge: Merge, pairs: PairTable): void {
  const { left, right, joined } = merge;
  const { ids, count } = word;
  const merged: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    const isPair = ids[i] === left && ids[i + 1] === right;
    merged.push(isPair ? joined : ids[i]);
    if (isPair) i++;
  }
  if (merged.length === ids.length) return;
  for (let i = 1; i < ids.length; i++) pairs.change(ids[i - 1], ids[i], -count, index);
  for (let i = 1; i < merged.length; i++) pairs.change(merged[i - 1], merged[i], count, index);
  word.ids = merged;
}

/** How often each pair of neighbours occurs, and in which words. */
class PairTable {
  readonly #counts = new Map<number, number>();
  readonly #words = new Map<number, Set<number>>();
  readonly #changed = new Set<number>();
  readonly #heap = new Heap<Candidate>((a, b) =>
    a.count > b.count || (a.count === b.count && a.key < b.key)
  );

  change(left: number, right: number, by: number, word: number): void {
    const key = pairKey(left, right);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + by);
    if (by < 0) return; // a count that shrank is seen when its candidate is taken
    this.#changed.add(key);
    const words = this.#words.get(key);
    if (words === undefined) this.#words.set(key, new Set([word]));
    else words.add(word);
  }

  /** Lets the pairs that were found since the last call stand for the next merge. */
  offerChanged(): void {
    for (const key of this.#changed) {
      const count = this.#counts.get(key) ?? 0;
      if (count > 1) this.#heap.push({ key, count });
    }
    this.#changed.clear();
  }

  /** The pair that occurs most, if any does twice. */
  takeCommonest(): number | undefined {
    for (let next = this.#heap.pop(); next !== undefined; next = this.#heap.pop()) {
      const count = this.#counts.get(next.key) ?? 0;
      if (count === next.count) return next.key;
      // it has shrunk; where it grew, another candidate says so
      if (count > 1 && count < next.count) this.#heap.push({ key: next.key, count });
    }
    return undefined;
  }

  /** The words that may hold the pair, which is settled by this. */
  takeWords(key: number): number[] {
    const words = [...this.#words.get(key) ?? []];
    this.#words.delete(key);
    return words;
  }
}

/** The text of a `tokenizer.json` as Hugging Face's libraries read it. */
export function bpeFile(merges: readonly Merge[]): string {
  const tokens = [...byteCharacters.keys()];
  for (const { left, right, joined } of merges) tokens[joined] = tokens[left] + tokens[right];
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  const endOfText = {
    id: tokens.length,
    content: endOfTextName,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  const file = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [endOfText],
    normalizer: null,
    pre_tokenizer: { ...byteLevel, use_regex: true },
    post_processor: null,
    decoder: { ...byteLevel, use_regex: true },
    model: bpeModel(
      Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges.map(({ left, right }) => [tokens[left], tokens[right]]),
    ),
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

/** The `model` of a tokenizer.json of byte-level BPE, which has a token for every byte and needs none for what is unknown. */
export function bpeModel(
  vocab: Readonly<Record<string, number>>,
  merges: readonly (readonly string[])[],
  ignore_merges = false,
): object {
  return {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges,
    vocab,
    merges,
  };
}
