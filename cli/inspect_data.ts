/**
 * What `quern inspect` shows of token shards and of tokenizers.
 *
 * @module
 */
import { plural, significant } from "../core/io/words.ts";
import type { SplitStats } from "../core/inspect/shards.ts";
import type { InspectOptions, View } from "./inspect.ts";
import { encodedSections, lines, pageOf, type Section } from "./inspect_sections.ts";
import { formatBytes, formatCount } from "./ui/numbers.ts";
import { bar, type Cell, oneLine, quoted } from "./ui/table.ts";

/** Tokens of a split that are counted unless the user says otherwise: a minute's reading at most. */
const countedTokens = 100_000_000, shownTokens = 60, common = 12, barWidth = 24;

/** A folder of token shards. */
export async function viewShards(path: string, options: InspectOptions): Promise<View> {
  const { openShards } = await import("../core/data/shard_reader.ts");
  const { splitNames } = await import("../core/data/shard_index.ts");
  const { splitStats } = await import("../core/inspect/shards.ts");
  using shards = await openShards(path);
  const { index, tokenizer, splits } = shards;
  const { samples, seed, maxTokens = countedTokens } = options;
  const found = splitNames.filter((name) => splits[name].tokens > 0).map((name) => ({
    name,
    files: index.splits[name].shards.length,
    stats: splitStats(splits[name], tokenizer, {
      maxTokens,
      common,
      samples,
      sampleTokens: shownTokens,
      seed,
    }),
  }));
  const { kind, sha256 } = index.tokenizer;
  const about: Section = {
    title: path,
    header: ["", ""],
    rows: [
      ["tokenizer", `${kind}, ${plural(index.vocab_size, "token")}, ${sha256.slice(0, 12)}`],
      ["stored as", index.dtype],
      ["end of text", index.end_of_text === null ? "none" : String(index.end_of_text)],
    ],
  };
  const sections = found.flatMap(({ name, files, stats }) => sectionsOf(name, files, stats));
  return {
    text: () => lines(about, sections),
    json: () => ({
      kind: "shards",
      folder: path,
      dtype: index.dtype,
      vocab_size: index.vocab_size,
      end_of_text: index.end_of_text,
      tokenizer: index.tokenizer,
      splits: Object.fromEntries(found.map(({ name, files, stats }) => [name, {
        files,
        tokens: stats.tokens,
        documents: stats.documents,
        bytes: Number.isFinite(stats.bytes) ? stats.bytes : null,
        bytes_per_token: Number.isFinite(stats.bytesPerToken) ? stats.bytesPerToken : null,
        document_lengths: stats.lengths ?? null,
        counted_tokens: stats.counted,
        different_tokens: stats.different,
        common: stats.common,
        samples: stats.samples,
      }])),
    }),
    html: () => pageOf(path, about, sections),
  };
}

function sectionsOf(name: string, files: number, stats: SplitStats): Section[] {
  const { tokens, documents, bytes, bytesPerToken, lengths, counted, different, samples } = stats;
  const known = (value: number, text: (value: number) => string) =>
    Number.isFinite(value) ? text(value) : "not known";
  const most = Math.max(0, ...lengths?.histogram.map(({ documents }) => documents) ?? []);
  const of = counted < tokens ? ` of the first ${formatCount(counted)}` : "";
  return [
    {
      title: name,
      header: ["", ""],
      rows: [
        ["tokens", `${formatCount(tokens)} in ${plural(files, "file")}`],
        ["documents", formatCount(documents)],
        ["text", known(bytes, formatBytes)],
        ["bytes a token", known(bytesPerToken, significant)],
        ["different tokens", `${formatCount(different)}${of}`],
        ...lengths
          ? [[
            "tokens a document",
            `${short(lengths.mean)} in the mean, median ${short(lengths.median)}, ${
              formatCount(lengths.least)
            } to ${formatCount(lengths.most)}`,
          ]]
          : [],
      ],
    },
    ...lengths && documents > 1
      ? [{
        title: `${name}: documents by length`,
        header: ["tokens", "documents", ""],
        rows: lengths.histogram.map(({ from, to, documents }): Cell[] => [
          `${formatCount(from)} to ${formatCount(to - 1)}`,
          documents,
          bar(documents / most, barWidth),
        ]),
      }]
      : [],
    {
      title: `${name}: the most common tokens${of}`,
      header: ["token", "id", "count", "share", ""],
      rows: stats.common.map(({ id, text, count }) => [
        quoted(text),
        id,
        count,
        `${(100 * count / counted).toFixed(2)} %`,
        bar(count / stats.common[0].count, barWidth),
      ]),
    },
    ...samples.length > 0
      ? [{
        title: `${name}: beginnings of documents`,
        header: ["document", "tokens", "text"],
        rows: samples.map(({ document, tokens, text }) => [document, tokens, oneLine(text, 300)]),
      }]
      : [],
  ];
}

const short = (n: number) => n < 1000 ? significant(n) : formatCount(n);

/** A tokenizer's file, or a folder with one. */
export async function viewTokenizer(path: string, { text }: InspectOptions): Promise<View> {
  const { loadTokenizer } = await import("../core/text/load.ts");
  const { encodedText, tokenizerFacts } = await import("../core/inspect/tokenizer_facts.ts");
  const tokenizer = await loadTokenizer(path), facts = tokenizerFacts(tokenizer);
  const { kind, vocabSize, bytes, longest, specials } = facts;
  const about: Section = {
    title: path,
    header: ["", ""],
    rows: [
      ["kind", kind],
      ["tokens", formatCount(vocabSize)],
      ["end of text", facts.endOfText === undefined ? "none" : String(facts.endOfText)],
      ["sha256", tokenizer.hash],
      [
        "bytes of tokens",
        bytes ? `${significant(bytes.mean)} in the mean, ${bytes.most} at most` : "not known",
      ],
    ],
  };
  const sections: Section[] = [
    ...await encodedSections(tokenizer, text),
    ...bytes
      ? [{
        title: "tokens by bytes",
        header: ["bytes", "tokens", ""],
        rows: bytes.histogram.map(({ bytes: size, tokens }, _, all): Cell[] => [
          size,
          tokens,
          bar(tokens / Math.max(...all.map(({ tokens }) => tokens)), barWidth),
        ]),
      }]
      : [],
    ...specials.length > 0
      ? [{
        title: "special tokens",
        header: ["token", "id"],
        rows: specials.map(({ name, id }): Cell[] => [name, id]),
      }]
      : [],
    {
      title: "the longest tokens",
      header: ["token", "id"],
      rows: longest.map(({ id, text }): Cell[] => [quoted(text), id]),
    },
  ];
  return {
    text: () => lines(about, sections),
    json: () => ({
      kind: "tokenizer",
      tokenizer: kind,
      vocab_size: vocabSize,
      end_of_text: facts.endOfText ?? null,
      sha256: tokenizer.hash,
      special_tokens: specials,
      bytes: bytes ?? null,
      longest,
      ...text !== undefined && { text, encoded: encodedText(tokenizer, text) },
    }),
    html: () => pageOf(path, about, sections),
  };
}
