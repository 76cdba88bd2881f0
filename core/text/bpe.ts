/**
 * Byte-pair encoding over bytes: merges the pair of neighbours that was learned first, the leftmost
 * of equals, until none is left.
 *
 * @module
 */
import { byteCharacters } from "./byte_alphabet.ts";
import { Heap } from "./heap.ts";

/** A learned merge: two ids, and the id of both together. */
export interface Merge {
  readonly left: number;
  readonly right: number;
  readonly joined: number;
}

/** What a byte-pair encoder knows. */
export interface BpeTables {
  /** The id of each of the 256 bytes. */
  readonly byteIds: readonly number[];
  /** In the order in which they are applied. */
  readonly merges: readonly Merge[];
  /** Pieces that are taken whole, whatever the merges say: byte-level text to id. */
  readonly whole?: ReadonlyMap<string, number>;
}

/** Pieces remembered at most, and the longest that is: about 15 MB. */
const cacheLimits = { pieces: 2 ** 16, characters: 48 };

const alphabet = [...byteCharacters.keys()];

/** A place in the heap holds a merge's rank and a position: `rank * positions + position`. */
const positions = 2 ** 32;

/** The ids of a piece of text; each piece is worked out once and then remembered. */
export function bpeEncoder(tables: BpeTables): (piece: string) => readonly number[] {
  let cache = new Map<string, readonly number[]>();
  const encode = pieceEncoder(tables);
  return (piece) => {
    const known = cache.get(piece);
    if (known !== undefined) return known;
    const ids = encode(piece);
    if (piece.length > cacheLimits.characters) return ids;
    if (cache.size >= cacheLimits.pieces) cache = new Map();
    cache.set(Array.from(piece).join(""), ids); // a slice would keep its whole text alive
    return ids;
  };
}

function pieceEncoder({ byteIds, merges, whole }: BpeTables): (piece: string) => number[] {
  const span = 1 + merges.reduce((most, { left, right }) => Math.max(most, left, right), 255);
  const ranks = new Map<number, number>();
  merges.forEach(({ left, right }, rank) => ranks.set(left * span + right, rank));
  const rankOf = (left: number, right: number) =>
    left < span && right < span ? ranks.get(left * span + right) : undefined;
  const utf8 = new TextEncoder();
  return (piece) => {
    const bytes = utf8.encode(piece);
    const known = whole?.get(Array.from(bytes, (byte) => alphabet[byte]).join(""));
    if (known !== undefined) return [known];
    const ids = Array.from(bytes, (byte) => byteIds[byte]);
    return ids.length < 2 ? ids : mergeAll(ids, merges, rankOf);
  };
}

/** Merges in place: a merged pair's right half leaves the list of neighbours. */
function mergeAll(
  ids: number[],
  merges: readonly Merge[],
  rankOf: (left: number, right: number) => number | undefined,
): number[] {
  const heap = new Heap<number>((a, b) => a < b);
  const next = Int32Array.from(ids, (_, i) => i + 1);
  const previous = Int32Array.from(ids, (_, i) => i - 1);
  const gone = -1;
  const offer = (at: number) => {
    if (at < 0 || next[at] >= ids.length) return;
    const rank = rankOf(ids[at], ids[next[at]]);
    if (rank !== undefined) heap.push(rank * positions + at);
  };
  for (let at = 0; at < ids.length; at++) offer(at);
  for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
    const rank = Math.floor(entry / positions), at = entry % positions;
    const right = next[at];
    const isStale = ids[at] === gone || right >= ids.length || rankOf(ids[at], ids[right]) !== rank;
    if (isStale) continue;
    ids[at] = merges[rank].joined;
    ids[right] = gone;
    next[at] = next[right];
    if (next[at] < ids.length) previous[next[at]] = at;
    offer(previous[at]);
    offer(at);
  }
  return ids.filter((id) => id !== gone);
}
