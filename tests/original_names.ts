/** Recorded tensors of a part, whose names lack what stands before the part's own in a checkpoint. */

/** Finds a tensor by the name that it has in a whole checkpoint; the longest end of it that is there counts. */
export function bySuffix<T>(tensors: Readonly<Record<string, T>>): (name: string) => T {
  return (name) => {
    const words = name.split(".");
    for (let from = 0; from < words.length; from++) {
      const found = tensors[words.slice(from).join(".")];
      if (found !== undefined) return found;
    }
    throw new Error(`no tensor ${name} among ${Object.keys(tensors)}`);
  };
}
