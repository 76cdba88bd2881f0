/** Models that get one more branch in each of their polymorphic mlps, and what they know already. */

import { sizeOf } from "../graph/mod.ts";
import type { BranchConfig } from "../nn/mod.ts";
import type { ModelConfig } from "./config.ts";
import { initialValues, type NamedParam } from "./params.ts";

/** Branches of the polymorphic mlps of a config, a list for each block that has one. */
export function branchesOf(config: ModelConfig): BranchConfig[][] {
  if (!("blocks" in config)) return [];
  return config.blocks.flatMap(({ mlp }) => mlp.kind === "polymorphic" ? [mlp.branches] : []);
}

/** The config with one more branch in all of them. */
export function withBranch<C extends ModelConfig>(config: C, branch: BranchConfig): C {
  if (!("blocks" in config)) return config;
  const blocks = config.blocks.map((block) =>
    block.mlp.kind === "polymorphic"
      ? { ...block, mlp: { ...block.mlp, branches: [...block.mlp.branches, branch] } }
      : block
  );
  return { ...config, blocks };
}

/** The bias that the router gives a new branch: so far below the least of the old that it gets little weight at first. */
export function newRouterBias(old: ArrayLike<number>, tau: number): number {
  return Math.min(...Array.from(old)) - 2 * tau;
}

/** What a new branch begins with. */
export interface Growth {
  /** Of new weights. */
  readonly seed: number;
  /** The router's bias for it: see `newRouterBias`. */
  readonly routerBias: number;
}

/**
 * A parameter's values after the growth; `old` has those before, undefined for a new tensor. The router's old rows stay as they
 * are, the new one is 0 but for its bias: the old branches' weights keep their ratios. A new branch
 * writes nothing at first: its last matrix is 0.
 */
export function grownValues(
  param: NamedParam,
  old: Float32Array | undefined,
  { seed, routerBias }: Growth,
): Float32Array {
  const { path, shape } = param, size = sizeOf(shape);
  if (!old) return path.endsWith(".down") ? new Float32Array(size) : initialValues(param, seed);
  if (old.length === size) return old;
  return withRow(old, size, path.endsWith(".router.out_bias") ? routerBias : 0);
}

/** Moments and the like: of what is new they are 0. */
export function grownMoments(
  shape: readonly number[],
  old: Float32Array | undefined,
): Float32Array {
  return withRow(old ?? new Float32Array(), sizeOf(shape), 0);
}

function withRow(old: Float32Array, size: number, value: number): Float32Array {
  const grown = new Float32Array(size).fill(value);
  grown.set(old);
  return grown;
}
