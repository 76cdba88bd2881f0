/** Texts from files, tokenized as training data are and held in memory. */

import { blockSizes } from "../data/blocks.ts";
import { documentsOf, readBatches, type ReadOptions, textOfPiece } from "../data/documents.ts";
import type { SplitReader } from "../data/shard_reader.ts";
import { UserError } from "../io/errors.ts";
import { utf8Length } from "../text/byte_table.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

export interface ReadTexts {
  /** All documents, each closed by the end-of-text token where the tokenizer has one. */
  readonly split: SplitReader;
  /** As lm-evaluation-harness counts them. */
  readonly words: number;
}

/**
 * Documents of nothing but white space are left out, as they are of training data. `beginning`: the token that they are
 * read behind, where it is not the one that closes them.
 */
export async function readTexts(
  paths: readonly string[],
  reading: ReadOptions,
  tokenizer: Pick<Tokenizer, "encode" | "endOfText">,
  beginning = tokenizer.endOfText,
): Promise<ReadTexts> {
  const { endOfText } = tokenizer, end = endOfText === undefined ? [] : [endOfText];
  const parts: Uint32Array[] = [], starts = [0];
  let bytes = 0, words = 0;
  // a text is encoded whole, so that it need not be cut
  const long = { lastCut: undefined, valFraction: 0, spoolFolder: "", sizes: blockSizes };
  for await (const blocks of readBatches(paths, reading, long)) {
    for (const block of blocks) {
      if (block.kind === "piece") {
        textOfPiece(block); // says what is wrong
        throw new Error("a text came in pieces");
      }
      for (const attempt of documentsOf(block, reading)) {
        const { text } = attempt();
        if (!/\S/.test(text)) continue;
        const ids = tokenizer.encode(text);
        parts.push(ids, Uint32Array.from(end));
        starts.push(starts.at(-1)! + ids.length + end.length);
        bytes += utf8Length(text);
        words += wordsIn(text);
      }
    }
  }
  if (parts.length === 0) {
    throw new UserError("there is no text in it", {
      where: paths[0],
      hint: "white space alone is no text",
    });
  }
  const before = endOfText === undefined ? undefined : beginning;
  return { split: splitOf(joined(parts), { starts, bytes, endOfText: before }), words };
}

function joined(parts: readonly Uint32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function splitOf(
  ids: Int32Array,
  { starts, bytes, endOfText }: {
    readonly starts: readonly number[];
    readonly bytes: number;
    readonly endOfText: number | undefined;
  },
): SplitReader {
  const documentStarts = Float64Array.from(starts);
  return {
    name: "val",
    tokens: ids.length,
    documents: starts.length - 1,
    bytes,
    endOfText,
    documentStarts: () => documentStarts,
    read: (start, out) => out.set(ids.subarray(start, start + out.length)),
  };
}

/** Python's `len(re.split(r"\s+", text))`: white space at either end makes an empty word. */
export function wordsIn(text: string): number {
  // deno-lint-ignore no-control-regex -- they are white space to Python
  return text.split(/(?:(?!\ufeff)[\s\x1c-\x1f\x85])+/).length;
}
