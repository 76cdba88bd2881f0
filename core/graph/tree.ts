/** Trees: nested plain objects and arrays with leaves of one kind. */

export type Tree<T> = T | readonly Tree<T>[] | { readonly [key: string]: Tree<T> };

/** Tells leaves from branches. A tensor is an object too, so the caller's kind decides. */
type IsLeaf = (value: unknown) => boolean;

const isTensorLike: IsLeaf = (value) =>
  typeof value === "object" && value !== null && "shape" in value && "dtype" in value;

/**
 * Applies `f` to every leaf; paths are joined by dots. Leaves are values with a shape and a dtype.
 */
export function mapTree<R>(tree: unknown, f: (leaf: never, path: string) => R, path = ""): unknown {
  if (isTensorLike(tree)) return f(tree as never, path);
  const join = (key: string | number) => (path ? `${path}.${key}` : String(key));
  if (Array.isArray(tree)) return tree.map((value, i) => mapTree(value, f, join(i)));
  if (typeof tree === "object" && tree !== null) {
    return Object.fromEntries(
      Object.entries(tree).map(([key, value]) => [key, mapTree(value, f, join(key))]),
    );
  }
  throw new TypeError(
    `a tree of tensors has ${tree === undefined ? "undefined" : typeof tree} at ${
      path || "its root"
    }`,
  );
}

/** Every leaf with its path, in the order of the keys. */
export function leavesOf<T>(tree: unknown): { path: string; leaf: T }[] {
  const found: { path: string; leaf: T }[] = [];
  mapTree(tree, (leaf: never, path) => found.push({ path, leaf }));
  return found;
}
