/**
 * Where a text may be cut so that both sides, each encoded on its own, give the ids of the whole: how
 * a text that is too long to be held is encoded piece by piece.
 *
 * @module
 */

/**
 * The last such place of a text that may go on, 0 where there is none. What stands before the text
 * ended at such a place, too.
 */
export type LastCut = (text: string) => number;

/** Between any two characters, for tokenizers that look at one at a time. */
export const cutAnywhere: LastCut = (text) => {
  const isHalf = /[\uD800-\uDBFF]$/.test(text.slice(-1)); // of a pair whose rest is to come
  return text.length - (isHalf ? 1 : 0);
};

/** Before a lone space between letters; behind a lone line feed that a letter or digit follows. */
const betweenWords = "(?<=\\p{L})(?= \\p{L})", behindLine = "(?<=\\S\\n)(?=[\\p{L}\\p{N}])";
/** What an added token holds if it may lie across such a place. */
const acrossWords = /\p{L} /u, acrossLine = /\n[\p{L}\p{N}]/u;

/**
 * Between words, for every way of cutting into pieces that ends a run of letters at a space, begins a
 * piece with the space before a letter, and ends a piece with a lone line feed: there a piece ends
 * whatever follows. Unicode's NFC never joins anything to a space or a line feed before or behind it,
 * so it may come first. `added` are texts that are one token wherever they stand.
 */
export function cutBetweenWords(added: readonly string[]): LastCut | undefined {
  const places = [
    ...added.some((text) => acrossWords.test(text)) ? [] : [betweenWords],
    ...added.some((text) => acrossLine.test(text)) ? [] : [behindLine],
  ];
  if (places.length === 0) return undefined;
  const pattern = new RegExp(places.join("|"), "gu");
  return (text) => {
    for (let length = 1024;; length *= 8) {
      const start = Math.max(0, text.length - length);
      let last = 0;
      for (const { index } of text.slice(start).matchAll(pattern)) last = index;
      if (last > 0) return start + last;
      if (start === 0) return 0;
    }
  };
}
