import assert from "node:assert/strict";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { makeCorpus } from "../../../core/data/corpus.ts";
import { bpeEncoder, type Merge } from "../../../core/text/bpe.ts";
import { fastEncoder } from "../../../core/text/fast_bpe.ts";
import { Heap } from "../../../core/text/heap.ts";
import { huggingfaceTokenizer } from "../../../core/text/huggingface.ts";
import { bpeFile, PieceCounts, trainMerges } from "../../../core/text/train_bpe.ts";
import { byteLevelBpe, unigram, wordPiece } from "./fixtures.ts";
import { awkward, unicodeSamples } from "./samples.ts";

const corpus = makeCorpus({ seed: 3, bytes: 60_000 }).documents.join("\n");

function train(texts: Iterable<string>, vocabSize: number): string {
  const counts = new PieceCounts();
  for (const text of texts) counts.add(text);
  return bpeFile(trainMerges(counts.entries(), vocabSize));
}

const trained = train([corpus, ...unicodeSamples], 600);
const anyText = fc.string({ unit: "binary", maxLength: 200 });

Deno.test("heap: gives the items back in order", () => {
  fc.assert(fc.property(fc.array(fc.integer()), (items) => {
    const heap = new Heap<number>((a, b) => a < b);
    items.forEach((item) => heap.push(item));
    assert.deepEqual(items.map(() => heap.pop()), items.toSorted((a, b) => a - b));
    assert.equal(heap.pop(), undefined);
  }));
});

/** The specification: count all pairs anew for each merge. */
function plainMerges(pieces: readonly [string, number][], vocabSize: number): Merge[] {
  const words = pieces.map(([piece, count]) => ({
    ids: [...new TextEncoder().encode(piece)],
    count,
  }));
  const merges: Merge[] = [];
  for (let joined = 256; joined < vocabSize - 1; joined++) {
    const counts = new Map<string, number>();
    for (const { ids, count } of words) {
      for (let i = 1; i < ids.length; i++) {
        const key = `${ids[i - 1]} ${ids[i]}`;
        counts.set(key, (counts.get(key) ?? 0) + count);
      }
    }
    const [best] = [...counts].map(([key, count]) => [count, ...key.split(" ").map(Number)])
      .filter(([count]) => count > 1)
      .sort(([n, a, b], [m, c, d]) => m - n || a - c || b - d);
    if (best === undefined) break;
    const [, left, right] = best;
    merges.push({ left, right, joined });
    for (const word of words) {
      for (let i = 1; i < word.ids.length; i++) {
        if (word.ids[i - 1] === left && word.ids[i] === right) word.ids.splice(i - 1, 2, joined);
      }
    }
  }
  return merges;
}

Deno.test("BPE training: the merges of counting everything anew, for any pieces", () => {
  const piece = fc.tuple(fc.string({ unit: fc.constantFrom("a", "b", "c") }), fc.nat({ max: 9 }));
  fc.assert(fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
    assert.deepEqual(trainMerges(pieces, 275), plainMerges(pieces, 275));
  }));
});

Deno.test("BPE training: the order of the text does not matter; the size is what was asked for", () => {
  const lines = corpus.split("\n").map((line) => `${line}\n`);
  assert.equal(train(lines, 400), train(lines.toReversed(), 400));
  assert.equal(huggingfaceTokenizer(train(lines, 400), "t").vocabSize, 400);
  assert.equal(huggingfaceTokenizer(train(["abab"], 400), "t").vocabSize, 258);
});

Deno.test("BPE training: rare pieces make room where there are too many", () => {
  const counts = new PieceCounts(100);
  for (let i = 0; i < 1000; i++) counts.add(` often ${i}`);
  assert.ok(counts.size <= 100);
  assert.equal(new Map(counts.entries()).get(" often"), 1000);
  const long = new PieceCounts();
  long.add("x".repeat(1000));
  assert.equal(long.size, 0);
});

Deno.test("replay: huggingface/tokenizers 830: a trained BPE gives back every text", () => {
  const tokenizer = huggingfaceTokenizer(trained, "t");
  const comesBack = (text: string) => tokenizer.decode(tokenizer.encode(text)) === text;
  for (const text of [...awkward, ...unicodeSamples, corpus]) assert.ok(comesBack(text));
  fc.assert(fc.property(anyText, comesBack));
  assert.equal(tokenizer.endOfText, 599);
  assert.ok(!tokenizer.encode("<|endoftext|>").includes(599));
});

/** Qwen's and Llama 3's way of cutting. */
const qwenPattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const base = JSON.parse(trained);
const splitStage = (Regex: string) => ({
  type: "Split",
  pattern: { Regex },
  behavior: "Isolated",
  invert: false,
});
const bytesOnly = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
const gpt2Stage = { ...bytesOnly, use_regex: true };
const sequence = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers });
const added = (id: number, content: string) => ({ id, content, special: false, normalized: false });
const known: Record<string, object> = {
  "trained here": base,
  "a few merges and an added token": byteLevelBpe(),
  "Qwen's": {
    ...base,
    normalizer: { type: "NFC" },
    pre_tokenizer: sequence(splitStage(qwenPattern), bytesOnly),
    added_tokens: [...base.added_tokens, added(600, "<think>"), added(601, "<think>\n")],
  },
  "Llama 3's": {
    ...base,
    pre_tokenizer: sequence(splitStage(qwenPattern.replace("\\p{N}|", "\\p{N}{1,3}|")), bytesOnly),
    model: { ...base.model, ignore_merges: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|endoftext|>", type_id: 0 } }, {
        Sequence: { id: "A", type_id: 0 },
      }],
      pair: [],
      special_tokens: {},
    },
  },
  "StarCoder's": {
    ...base,
    pre_tokenizer: sequence({ type: "Digits", individual_digits: true }, gpt2Stage),
    model: {
      ...base.model,
      merges: base.model.merges.map(([a, b]: [string, string]) => `${a} ${b}`),
    },
  },
};

/** GPT-4o's and Llama 4's. */
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const suffix = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
const gpt4oPattern = `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${suffix}|` +
  `[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${suffix}|` +
  "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
known["GPT-4o's"] = { ...base, pre_tokenizer: sequence(splitStage(gpt4oPattern), bytesOnly) };

for (const [name, file] of Object.entries(known)) {
  Deno.test(`fast BPE: ${name}: cut where it may be, a text has the ids of the whole`, () => {
    const { encode, lastCut } = fastEncoder(file)!;
    assert.ok(lastCut !== undefined);
    let cuts = 0;
    const isEqual = (text: string) => {
      const whole = [...encode(text)];
      for (let end = 1; end <= text.length; end++) {
        const cut: number = lastCut(text.slice(0, end)); // the rest is still to come
        if (cut === 0) continue;
        cuts++;
        const parts: number[] = [...encode(text.slice(0, cut)), ...encode(text.slice(cut))];
        assert.deepEqual(parts, whole, JSON.stringify([text.slice(0, cut), text.slice(cut)]));
      }
    };
    for (const text of [...awkward, ...unicodeSamples, corpus.slice(0, 1000)]) isEqual(text);
    // letters of every kind, marks that join them, signs that patterns treat apart, parts of tokens
    const unit = fc.constantFrom(
      ...[
        "a",
        "T",
        "s",
        "é",
        "e\u0301",
        "\u0301",
        "\u212a",
        "漢",
        "\u1112",
        "\u1161",
        "ﬁ",
        "ª",
        "𝐚",
      ],
      ...[
        " ",
        " ",
        "\n",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u2028",
        "'",
        "'s",
        "/",
        ".",
        "1",
        "٣",
        "½",
      ],
      ...["<think>", "<thi", "nk>\n", "🙂", "\ud800"],
    );
    fc.assert(fc.property(fc.string({ unit, maxLength: 24 }), isEqual), { numRuns: 400 });
    assert.ok(cuts > 500, `${cuts}`);
  });

  Deno.test(`fast BPE: ${name}: the ids of @huggingface/tokenizers`, () => {
    const fast = fastEncoder(file);
    assert.ok(fast !== undefined);
    const { encode } = fast;
    const { added_tokens } = JSON.parse(JSON.stringify(file));
    const ordinary = added_tokens.filter(({ special }: { special: boolean }) => !special);
    const library = new Library({ ...base, ...file, added_tokens: ordinary }, {});
    const isEqual = (text: string) =>
      assert.deepEqual(
        [...encode(text)],
        library.encode(text, { add_special_tokens: false }).ids,
      );
    for (const text of [...awkward, ...unicodeSamples, corpus, "", "\ud800 half a pair"]) {
      isEqual(text);
    }
    fc.assert(fc.property(anyText, isEqual));
    const letters = fc.string({ unit: fc.constantFrom("t", "h", "e", " ", "\n", "<think>", "1") });
    fc.assert(fc.property(letters, isEqual));
  });
}

Deno.test("fast BPE: no place is sure where added tokens or an unknown pattern may lie across it", () => {
  const lastCut = (file: object) => fastEncoder(file)?.lastCut;
  const qwen = known["Qwen's"];
  const withTokens = (...contents: string[]) => ({
    ...qwen,
    added_tokens: [...base.added_tokens, ...contents.map((content, i) => added(600 + i, content))],
  });
  assert.equal(lastCut(withTokens("a b", "x\ny")), undefined);
  assert.equal(lastCut(withTokens("é")), undefined); // NFC may make one where there was none
  assert.equal(lastCut(withTokens("K")), undefined);
  assert.equal(lastCut({ ...base, pre_tokenizer: bytesOnly }), undefined); // one piece
  assert.equal(
    lastCut({ ...base, pre_tokenizer: sequence(splitStage(".+"), bytesOnly) }),
    undefined,
  );
  const words = lastCut(withTokens("x\ny"))!, lines = lastCut(withTokens("a b"))!;
  assert.equal(words("one two\nthree"), 3);
  assert.equal(lines("one\ntwo three"), 4);
});

Deno.test("cuts: NFC keeps what they stand by: letters are letters, white space is white space", () => {
  const kind = (text: string) => /^\p{L}/u.test(text) ? "L" : /^\p{N}/u.test(text) ? "N" : "";
  for (let point = 0x80; point < 0x30000; point++) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const character = String.fromCodePoint(point);
    const normal = character.normalize("NFC");
    if (normal === character) continue;
    assert.equal(kind(normal), kind(character), point.toString(16));
    assert.equal(/\s$/.test(normal), /\s$/.test(character));
  }
  for (let point = 0x300; point < 0x30000; point++) { // nothing joins a space or a line feed
    const character = point >= 0xd800 && point < 0xe000 ? "" : String.fromCodePoint(point);
    for (const inert of [" ", "\n"]) {
      assert.equal((inert + character).normalize("NFC"), inert + character.normalize("NFC"));
    }
  }
});

Deno.test("fast BPE: a trait that is not known here leaves the file to the library", () => {
  const model = (traits: object) => ({ ...base, model: { ...base.model, ...traits } });
  const token = added(600, "<think>");
  const unknown: object[] = [
    unigram(),
    wordPiece(),
    { ...base, pre_tokenizer: { ...gpt2Stage, add_prefix_space: true } },
    { ...base, pre_tokenizer: { type: "ByteLevel" } }, // a prefix space is its default elsewhere
    { ...base, pre_tokenizer: sequence(gpt2Stage, splitStage("a")) },
    { ...base, pre_tokenizer: sequence({ ...splitStage("a"), behavior: "Removed" }, bytesOnly) },
    { ...base, normalizer: { type: "NFKC" } },
    { ...base, normalizer: { type: "NFC" }, added_tokens: [{ ...token, normalized: true }] },
    { ...base, added_tokens: [{ ...token, lstrip: true }] },
    { ...base, decoder: { type: "Fuse" } },
    model({ end_of_word_suffix: "</w>" }),
    model({ byte_fallback: true }),
    model({ unk_token: "a" }),
    model({ merges: [["Ġ", "none"]] }),
  ];
  unknown.forEach((file, i) => assert.equal(fastEncoder(file), undefined, String(i)));
});

Deno.test("fast BPE: a piece of a million bytes takes no time to speak of", () => {
  const byteIds = Array.from({ length: 256 }, (_, byte) => byte);
  const merges = Array.from({ length: 8 }, (_, i) => {
    const half = i === 0 ? 97 : 255 + i;
    return { left: half, right: half, joined: 256 + i };
  });
  const startedAt = performance.now();
  const ids = bpeEncoder({ byteIds, merges })("a".repeat(2 ** 20));
  assert.equal(ids.length, 2 ** 12);
  assert.ok(performance.now() - startedAt < 20_000); // its square would be hours
});

Deno.test("BPE: what is remembered does not change what comes out", () => {
  const { encode } = fastEncoder(base)!;
  const first = corpus.split(" ").slice(0, 200).map((word) => [...encode(word)]);
  for (let i = 0; i < 140_000; i++) encode(`x${i}`); // more than are remembered
  assert.deepEqual(corpus.split(" ").slice(0, 200).map((word) => [...encode(word)]), first);
});
