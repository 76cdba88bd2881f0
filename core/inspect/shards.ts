/** What a split of token shards holds. */

import type { SplitReader } from "../data/shard_reader.ts";
import { bytesBehind, byteTableOf } from "../text/byte_table.ts";
import { uniforms } from "../graph/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

export interface SplitStats {
  readonly tokens: number;
  readonly documents: number;
  /** Of text; NaN where nobody knows. */
  readonly bytes: number;
  /** Tokens of a document, its end included. */
  readonly lengths: {
    readonly mean: number;
    readonly median: number;
    readonly least: number;
    readonly most: number;
    /** Documents of at least `from` and fewer than `to` tokens. */
    readonly histogram: readonly { from: number; to: number; documents: number }[];
  } | undefined;
  /** So many tokens, from the start, were looked at for what follows. */
  readonly counted: number;
  /** Different ones among them. */
  readonly different: number;
  readonly common: readonly {
    readonly id: number;
    readonly text: string;
    readonly count: number;
  }[];
  readonly bytesPerToken: number;
  readonly samples: readonly {
    readonly document: number;
    readonly tokens: number;
    readonly text: string;
  }[];
}

export interface ShardOptions {
  /** Tokens that are counted at most. */
  readonly maxTokens: number;
  readonly common: number;
  /** Documents that are shown, drawn by the seed, and their tokens that are. */
  readonly samples: number;
  readonly sampleTokens: number;
  readonly seed: number;
}

export function splitStats(
  split: SplitReader,
  tokenizer: Tokenizer,
  options: ShardOptions,
): SplitStats {
  const starts = split.documentStarts(), documents = starts.length - 1;
  const { counts, counted, bytes } = countTokens(split, tokenizer, options.maxTokens);
  const isWhole = counted === split.tokens && !Number.isNaN(bytes);
  const total = Number.isFinite(split.bytes) ? split.bytes : isWhole ? bytes : NaN;
  const ids = [...counts.keys()].filter((id) => counts[id] > 0)
    .sort((a, b) => counts[b] - counts[a] || a - b);
  return {
    tokens: split.tokens,
    documents,
    bytes: total,
    lengths: documents > 0 ? lengthsOf(starts) : undefined,
    counted,
    different: ids.length,
    common: ids.slice(0, options.common)
      .map((id) => ({ id, text: tokenText(tokenizer, id), count: counts[id] })),
    bytesPerToken: Number.isFinite(split.bytes) ? split.bytes / split.tokens : bytes / counted,
    samples: samplesOf(split, starts, tokenizer, options),
  };
}

/** How often each id occurs, and the bytes that all stand for. */
function countTokens(split: SplitReader, tokenizer: Tokenizer, maxTokens: number) {
  const counted = Math.min(split.tokens, maxTokens), table = byteTableOf(tokenizer);
  const counts = new Float64Array(tokenizer.vocabSize), part = 2 ** 18;
  let bytes = table ? 0 : NaN, previous = split.endOfText ?? 0;
  for (let at = 0; at < counted; at += part) {
    const ids = new Int32Array(Math.min(part, counted - at));
    split.read(at, ids);
    for (let i = 0; i < ids.length; i++) {
      counts[ids[i]]++;
      if (table) bytes += bytesBehind(table, previous, ids[i]);
      previous = ids[i];
    }
  }
  return { counts, counted, bytes };
}

/** Powers of two, from the shortest document's to the longest's. */
function lengthsOf(starts: Float64Array): NonNullable<SplitStats["lengths"]> {
  const lengths = Float64Array.from(
    { length: starts.length - 1 },
    (_, i) => starts[i + 1] - starts[i],
  ).sort();
  const { length } = lengths, bin = (tokens: number) => Math.floor(Math.log2(Math.max(1, tokens)));
  const first = bin(lengths[0]), last = bin(lengths[length - 1]);
  const histogram = Array.from({ length: last - first + 1 }, (_, i) => ({
    from: first + i === 0 ? 0 : 2 ** (first + i),
    to: 2 ** (first + i + 1),
    documents: 0,
  }));
  for (const tokens of lengths) histogram[bin(tokens) - first].documents++;
  return {
    mean: starts[length] / length,
    median: (lengths[Math.floor((length - 1) / 2)] + lengths[Math.floor(length / 2)]) / 2,
    least: lengths[0],
    most: lengths[length - 1],
    histogram,
  };
}

function samplesOf(
  split: SplitReader,
  starts: Float64Array,
  tokenizer: Tokenizer,
  { samples, sampleTokens, seed }: ShardOptions,
): SplitStats["samples"] {
  const documents = starts.length - 1, wanted = Math.min(samples, documents);
  const drawn = new Set<number>();
  for (const at of uniforms(seed, "inspect.samples", 20 * wanted)) {
    if (drawn.size < wanted) drawn.add(Math.min(documents - 1, Math.floor(at * documents)));
  }
  return [...drawn].sort((a, b) => a - b).map((document) => {
    const tokens = starts[document + 1] - starts[document];
    const ids = new Int32Array(Math.min(tokens, sampleTokens));
    split.read(starts[document], ids);
    return { document, tokens, text: tokenizer.decode(ids) };
  });
}

/** A token as it adds to a text; a special one by its name. */
export function tokenText(tokenizer: Tokenizer, id: number): string {
  for (const [name, special] of tokenizer.specialTokens) if (special === id) return name;
  const piece = tokenizer.pieces?.()[id]?.text;
  return piece ?? tokenizer.decode([id]);
}
