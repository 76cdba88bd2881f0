/** Rows of tokens that are scored, and what of them is computed once. Pure. */

/** Tokens of a context and of what follows it; the last is a target alone, and never read. */
export interface TokenRow {
  readonly ids: ArrayLike<number>;
  /** How many of the last are targets: at least one, and not the first, before which nothing stands. */
  readonly scored: number;
}

/**
 * The row as a model of so many positions can read it: its last tokens, one more than the positions
 * as the last is not read. Targets that have nothing before them then are no targets any more.
 */
export function windowed({ ids, scored }: TokenRow, positions: number): TokenRow {
  const from = Math.max(0, ids.length - positions - 1), length = ids.length - from;
  return { ids: Array.prototype.slice.call(ids, from), scored: Math.min(scored, length - 1) };
}

/** Tokens that are read once for all rows that begin with them, and how those go on. */
export interface Trunk {
  /** Of its first tokens so many are those of the base, which is read once for many trunks. */
  readonly base: number;
  /** What is read of all its rows, after the base: at least one token. */
  readonly ids: readonly number[];
  readonly branches: readonly Branch[];
}

export interface Branch {
  /** The row's place in the list. */
  readonly row: number;
  /** What is read of it after the trunk: nothing of a row that is all trunk. */
  readonly ids: readonly number[];
  readonly scored: number;
  /** The row's targets. */
  readonly targets: readonly number[];
}

export interface Shared {
  readonly base: readonly number[];
  readonly trunks: readonly Trunk[];
}

/** Whether what rows have in common is computed once. */
export type Sharing = "on" | "off";

/** A base is worth its while from so many tokens on. */
const smallestBase = 16;
/** What saves less than this part of the tokens is not shared: it takes steps of its own. */
const smallestGain = 0.1;

/** Finds what rows have in common: `families` are places of rows that may begin alike. */
export function share(
  rows: readonly TokenRow[],
  families: readonly (readonly number[])[],
  sharing: Sharing,
): Shared {
  const alone = () => families.flat().map((row) => trunkOf(rows, [row]));
  if (sharing === "off") return { base: [], trunks: alone() };
  return withBase(families.flatMap((family) => trunksOf(rows, family)));
}

function trunksOf(rows: readonly TokenRow[], family: readonly number[]): Trunk[] {
  const together = trunkOf(rows, family), saved = together.ids.length * (family.length - 1);
  const all = family.reduce((sum, row) => sum + rows[row].ids.length - 1, 0);
  return saved > 0 && saved >= smallestGain * all
    ? [together]
    : family.map((row) => trunkOf(rows, [row]));
}

function trunkOf(rows: readonly TokenRow[], family: readonly number[]): Trunk {
  const read = family.map((row) => Array.from(rows[row].ids).slice(0, -1));
  const length = read.reduce((n, ids) => commonLength(read[0], ids, n), Infinity);
  const branches = family.map((row, i): Branch => {
    const { ids, scored } = rows[row];
    return {
      row,
      scored,
      ids: read[i].slice(length),
      targets: Array.from(ids).slice(ids.length - scored),
    };
  });
  return { base: 0, ids: read[0].slice(0, length), branches };
}

/** The longest beginning that most trunks share becomes their base; nothing that is scored is in it. */
function withBase(trunks: readonly Trunk[]): Shared {
  const groups = new Map<string, Trunk[]>();
  for (const trunk of trunks) {
    if (basePart(trunk) < smallestBase) continue;
    const key = trunk.ids.slice(0, smallestBase).join();
    groups.set(key, [...groups.get(key) ?? [], trunk]);
  }
  const [group] = [...groups.values()].sort((a, b) => b.length - a.length);
  if (!group || group.length < 2) return { base: [], trunks };
  const length = group.reduce(
    (n, trunk) => commonLength(group[0].ids, trunk.ids, Math.min(n, basePart(trunk))),
    Infinity,
  );
  const all = trunks.reduce((sum, { ids }) => sum + ids.length, 0);
  if (length * (group.length - 1) < smallestGain * all) return { base: [], trunks };
  const members = new Set(group);
  return {
    base: group[0].ids.slice(0, length),
    trunks: trunks.map((trunk) =>
      members.has(trunk) ? { ...trunk, base: length, ids: trunk.ids.slice(length) } : trunk
    ),
  };
}

/** How many of a trunk's tokens may be a base's: not the last, and none whose successor is scored. */
function basePart({ ids, branches }: Trunk): number {
  const firstScored = branches.map((branch) => ids.length + branch.ids.length - branch.scored);
  return Math.min(ids.length - 1, ...firstScored);
}

function commonLength(a: readonly number[], b: readonly number[], most: number): number {
  const end = Math.min(a.length, b.length, most);
  for (let i = 0; i < end; i++) if (a[i] !== b[i]) return i;
  return end;
}
