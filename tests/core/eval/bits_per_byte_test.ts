import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { type Batch, ignoredTarget } from "../../../core/data/batches.ts";
import type { SplitReader } from "../../../core/data/shard_reader.ts";
import {
  type BitsOptions,
  bitsPerByte,
  type LossMeter,
  rowsToScore,
  targetsToScore,
} from "../../../core/eval/bits_per_byte.ts";
import { readTexts, wordsIn } from "../../../core/eval/texts.ts";
import {
  wholeRows,
  type Window,
  windowsOfChallenge,
  windowsOnce,
} from "../../../core/eval/windows.ts";
import { byteTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { readJson } from "../../vectors.ts";

const end = 256, tokenizer = byteTokenizer();
const reading = { format: "text", fields: ["text"], separator: "\n", onError: "stop" } as const;

/** A "model" whose loss tells all that it saw of the segment. */
const lossOf = (seen: readonly number[], target: number) =>
  seen.reduce((sum, id, i) => (sum * 31 + id * (i + 1)) % 977, target) / 300;

const fakeMeter: LossMeter = {
  async *score(batches) {
    for await (const batch of batches) yield { batch, losses: lossesOf(batch) };
  },
};

function lossesOf({ ids, targets, segmentIds, positions, length }: Batch): number[] {
  return Array.from(targets, (target, i) => {
    if (target === ignoredTarget) return 0;
    const start = i - positions[i];
    assert.ok(Math.floor(start / length) === Math.floor(i / length), "a segment stays in its row");
    assert.ok(segmentIds.subarray(start, i).every((id) => id === segmentIds[i]));
    return lossOf([...ids.subarray(start, i + 1)], target);
  });
}

function splitOf(documents: readonly (readonly number[])[], endOfText?: number): SplitReader {
  const ids = Int32Array.from(documents.flat()), starts = [0];
  for (const { length } of documents) starts.push(starts.at(-1)! + length);
  return {
    name: "val",
    tokens: ids.length,
    documents: documents.length,
    bytes: NaN,
    endOfText,
    documentStarts: () => Float64Array.from(starts),
    read: (start, out) => {
      assert.ok(start + out.length <= ids.length);
      out.set(ids.subarray(start, start + out.length));
    },
  };
}

/** The same the slow way: a target after the other, each with what its window shows. */
function bruteForce(texts: readonly (readonly number[])[], options: BitsOptions) {
  const { counting, stride, length } = options;
  let nats = 0, targets = 0, bytes = 0;
  for (const text of texts) {
    const count = text.length - 1;
    const score = (from: number, i: number) => {
      nats += lossOf(text.slice(from, i + 1), text[i + 1]);
      bytes += text[i + 1] < 256 ? 1 : 0;
      targets++;
    };
    if (counting === "challenge") {
      for (let from = 0; from < count; from += stride ?? length) {
        const to = Math.min(from + length, count);
        if (stride === undefined && to - from < length) break;
        const first = from === 0 || stride === undefined ? from : Math.max(from, to - stride);
        for (let i = first; i < to; i++) score(from, i);
      }
    } else {
      const step = stride ?? length;
      for (let i = 0; i < count; i++) {
        const end = i < length ? length : length + step * Math.ceil((i + 1 - length) / step);
        score(Math.max(0, Math.min(end, count) - length), i);
      }
    }
  }
  return { nats, targets, bytes };
}

const documents = fc.array(
  fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 40 }),
  { minLength: 1, maxLength: 6 },
);

Deno.test("bits per byte: every way of counting equals a loop over targets, whatever the batch", async () => {
  await fc.assert(
    fc.asyncProperty(
      documents,
      fc.integer({ min: 1, max: 12 }),
      fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom("documents", "stream"),
      fc.constantFrom("once", "challenge", "harness"),
      async (texts, length, wished, rows, packing, counting) => {
        // rows that documents share have tests of their own (batches_test.ts)
        if (counting === "once" && packing === "documents" && wished === undefined) return;
        const stride = wished && Math.min(wished, length);
        const closed = texts.map((text) => [...text, end]);
        const split = splitOf(closed, end);
        const options = { length, stride, rows, packing, counting } as const;
        const expected = bruteForce(
          counting === "harness"
            ? texts.map((text) => [end, ...text])
            : counting === "challenge" || packing === "stream"
            ? [closed.flat()]
            : closed.map((text) => [end, ...text]),
          // without a stride a row's first target has nothing before it
          counting === "once" && stride === undefined ? { ...options, stride: length } : options,
        );
        const isTiled = counting === "once" && stride === undefined;
        const found = await bitsPerByte(fakeMeter, { split }, tokenizer, options);
        assert.equal(found.targets, expected.targets);
        assert.equal(found.bytes, expected.bytes);
        if (!isTiled) assert.ok(Math.abs(found.nats - expected.nats) < 1e-9);
        assert.equal(targetsToScore(split, options), expected.targets);
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("bits per byte: rows side by side count each target with its row's tokens", async () => {
  const split = splitOf([[5, 6, 7, 8, 9, 10]]);
  const plain = { length: 2, rows: 3, packing: "stream", counting: "once" } as const;
  const seen: [readonly number[], number][] = [[[5], 6], [[5, 6], 7], [[7], 8], [[7, 8], 9], [
    [9],
    10,
  ]];
  const nats = seen.reduce((sum, [ids, target]) => sum + lossOf(ids, target), 0);
  const found = await bitsPerByte(fakeMeter, { split }, tokenizer, plain);
  assert.ok(Math.abs(found.nats - nats) < 1e-12);
  assert.ok(Math.abs(found.bits_per_byte - nats / Math.LN2 / 5) < 1e-12);
  assert.ok(Math.abs(found.byte_perplexity - Math.exp(nats / 5)) < 1e-12);
  // the challenge leaves out the row that is not whole
  const whole = await bitsPerByte(fakeMeter, { split }, tokenizer, {
    ...plain,
    counting: "challenge",
  });
  assert.equal(whole.targets, 4);
  const some = await bitsPerByte(fakeMeter, { split }, tokenizer, { ...plain, maxTargets: 3 });
  assert.equal(some.targets, 3);
});

Deno.test("bits per byte: pieces, tokens and losses as recorded give what was recorded", async () => {
  const recorded = readJson<{
    pieces: { piece: string; kind: "normal" }[];
    tokens: number[];
    nll_nats: number[];
    total_bytes: number;
    val_loss: number;
    bpb: number;
  }>("spec/bits_per_byte.json");
  const meter: LossMeter = {
    async *score(batches) {
      for await (const batch of batches) yield { batch, losses: recorded.nll_nats };
    },
  };
  const pieces = recorded.pieces.map(({ piece, kind }) => ({ text: piece, kind }));
  const sentencePiece = { ...tokenizer, bytesOf: undefined, pieces: () => pieces };
  const split = splitOf([recorded.tokens]), length = recorded.nll_nats.length;
  for (const counting of ["once", "challenge"] as const) {
    const options = { length, rows: 1, packing: "stream", counting } as const;
    const found = await bitsPerByte(meter, { split }, sentencePiece, options);
    assert.equal(found.bytes, recorded.total_bytes);
    assert.ok(Math.abs(found.loss - recorded.val_loss) < 1e-12);
    assert.ok(Math.abs(found.bits_per_byte - recorded.bpb) < 1e-12);
  }
});

Deno.test("sliding windows: the challenge's, as recorded, count the tail again", () => {
  const { sliding_windows: recorded } = readJson<{
    sliding_windows: {
      total_targets: number;
      seq_len: number;
      stride: number;
      windows: {
        start: number;
        len: number;
        score_from: number;
        scored_positions: [number, number];
      }[];
    };
  }>("spec/bits_per_byte.json");
  const { total_targets, seq_len, stride } = recorded;
  const found = [...windowsOfChallenge(total_targets, seq_len, stride)];
  assert.deepEqual(
    found.map(({ start, length, from }) => ({
      start,
      len: length,
      score_from: from,
      scored_positions: [start + from, start + length],
    })),
    recorded.windows,
  );
  assert.equal([...windowsOnce(total_targets, seq_len, stride)].at(-1)!.length, seq_len);
});

Deno.test("sliding windows: each target once, with as much before it as there is", () => {
  const targetsOf = ({ start, length, from }: Window) =>
    Array.from({ length: length - from }, (_, i) => start + from + i);
  const sizes = fc.tuple(
    fc.integer({ min: 0, max: 60 }),
    fc.integer({ min: 1, max: 16 }),
    fc.integer({ min: 1, max: 16 }),
  );
  fc.assert(fc.property(sizes, ([targets, context, wished]) => {
    const stride = Math.min(wished, context);
    const windows = [...windowsOnce(targets, context, stride)];
    assert.deepEqual(windows.flatMap(targetsOf), Array.from({ length: targets }, (_, i) => i));
    for (const { start, length, from } of windows) {
      assert.ok(length <= context);
      assert.ok(start === 0 || (length === context && from >= context - stride));
    }
    const rows = [...wholeRows(targets, context)];
    assert.equal(rows.length, Math.floor(targets / context));
  }));
});

/** EleutherAI's get_rolling_token_windows(list, prefix, max_seq_len, context_len 1), written from its description. */
function rolling(tokens: readonly number[], prefix: number, longest: number) {
  const windows: [number[], number[]][] = [];
  const first = Math.min(longest, tokens.length);
  windows.push([[prefix, ...tokens.slice(0, first - 1)], tokens.slice(0, first)]);
  for (let done = first; done < tokens.length;) {
    const count = Math.min(tokens.length - done, longest), end = done + count;
    windows.push([tokens.slice(end - longest - 1, end - 1), tokens.slice(end - count, end)]);
    done = end;
  }
  return windows;
}

Deno.test("bits per byte: --counting harness reads lm-evaluation-harness's rolling windows", () => {
  for (const length of [1, 3, 8, 20]) {
    const text = Array.from({ length: 17 }, (_, i) => 40 + i);
    const rows = [...rowsToScore(splitOf([[...text, end]], end), {
      counting: "harness",
      packing: "stream",
      rows: 1,
      length,
    })];
    const found = rows.map(({ ids, targets, positions }) => {
      const used = positions.findLastIndex((at) => at > 0) + 1 || 1;
      return [[...ids.subarray(0, used)], [...targets].filter((id) => id !== ignoredTarget)];
    });
    const expected = rolling(text, end, length);
    assert.deepEqual(found, expected);
  }
});

Deno.test("bits per byte: words and bytes of a text are the harness's", () =>
  withTempDir(async (dir) => {
    const path = join(dir, "two.txt");
    await Deno.writeTextFile(path, "one two\nthree é \n \n");
    const { split, words } = await readTexts([path], reading, tokenizer);
    assert.equal(split.documents, 2);
    assert.equal(split.bytes, 7 + 9);
    assert.equal(words, 2 + 3); // a space at the end makes an empty word
    assert.equal(wordsIn("a\x85b\ufeffc\x1fd"), 3);
    const options = { length: 8, rows: 2, packing: "documents", counting: "harness" } as const;
    const found = await bitsPerByte(fakeMeter, { split, words }, tokenizer, options);
    assert.equal(found.targets, 16);
    assert.equal(found.bytes, 16);
    assert.ok(Math.abs(found.word_perplexity! - Math.exp(found.nats / 5)) < 1e-9);
    const part = await bitsPerByte(fakeMeter, { split, words }, tokenizer, {
      ...options,
      maxTargets: 3,
    });
    assert.equal(part.words, undefined);
  }));
