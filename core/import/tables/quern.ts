/** What the PyTorch modules that quern export writes call our parameters. */

import { type Model, type NamedParam, namedParams } from "../../model/mod.ts";
import type { ImportTable } from "../table.ts";

/** Parameters with two axes that no layer of PyTorch multiplies with. */
const bare = new Set(["conv", "alpha"]);

/** Vectors that are a norm's gain, by the norm's name. */
const norms = new Set(["norm", "q_norm", "k_norm"]);

/**
 * A matrix or table is a layer's `weight`; what is called like one and `_bias` is the same layer's `bias`; all others are
 * called as here, but for names that loaders of transformers used to change (`beta`).
 */
export function torchName(
  { path, role, shape }: NamedParam,
  paths: ReadonlySet<string>,
): string {
  const [, before, leaf] = path.match(/^(.*?)([^.]+)$/)!, of = leaf.replace(/_bias$/, "");
  if (of !== leaf && paths.has(before + of) && !bare.has(of)) return `${before}${of}.bias`;
  if (leaf === "gain") return `${before}weight`;
  if (norms.has(leaf)) return `${path}.weight`;
  if (leaf === "beta") return `${before}scale`;
  const isLayer = shape.length === 2 && role !== "gain" && leaf !== "weight" && !bare.has(leaf);
  return isLayer ? `${path}.weight` : path;
}

/** The table of a model's own names: for writing, and for reading back. */
export function torchTable(model: Model): ImportTable {
  const params = namedParams(model.params), paths = new Set(params.map(({ path }) => path));
  return {
    name: "quern",
    rules: params.map((param) => ({ ours: param.path, theirs: torchName(param, paths) })),
    tied: ["input.embedding.weight", "head.weight"],
    ignored: [],
  };
}
