/**
 * What can be done with fetched files.
 *
 * @module
 */
import { basename, join } from "node:path";
import { isTextName } from "../core/data/inputs.ts";
import type { FetchResult, Repo } from "../core/hub/mod.ts";
import { plainName } from "../core/io/input_file.ts";
import { shellWord } from "../core/io/words.ts";

/** Commands that go on from here, a line each; none where nothing here can use the files. */
export function nextSteps({ folder, files }: FetchResult, { id }: Repo): string[] {
  const tokenizer = files.find(({ path }) => basename(path) === "tokenizer.json");
  if (tokenizer) {
    return [
      `next: quern tokenize corpus.txt --tokenizer ${
        shellWord(tokenizer.localPath)
      } --out data/corpus`,
    ];
  }
  // a data set's card is text, too, and not meant
  const texts = files.filter(({ path }) => isTextName(path) && !/\.md$/i.test(path));
  if (texts.length === 0) return [];
  const suffix = commonest(texts.map(({ path }) => suffixOf(path)));
  const alike = texts.filter(({ path }) => suffixOf(path) === suffix);
  const input = alike.length === 1
    ? shellWord(alike[0].localPath)
    : `"${join(folder, alike.some(({ path }) => path.includes("/")) ? "**" : "", `*${suffix}`)}"`;
  const name = basename(id).toLowerCase();
  return [`next: quern tokenize ${input} --out ${shellWord(`data/${name}-tokens`)}`];
}

/** `.jsonl.zst` of `a/b.jsonl.zst`. */
function suffixOf(path: string): string {
  const name = basename(path), plain = plainName(name);
  return name.slice(plain.lastIndexOf("."));
}

function commonest(values: readonly string[]): string | undefined {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}
