/**
 * What goes on inside of a model, for those who want to see it: a part tells of a value where it has it, and nothing is
 * computed, nor a node made, unless somebody looks.
 */

import { currentPath, type Tensor } from "./tensor.ts";

/** What a value is. */
export interface About {
  /**
   * `shares`: along the last axis they make 1. `entropy`: in nats. `scores`: numbers that a choice is made by. `gate`: 0
   * to 1. `decay`: what is left of a state after a token, 0 to 1. `factor`: what is learned and multiplied by. `change`: the
   * size of what is added, as a part of what was there.
   */
  readonly kind: "shares" | "entropy" | "scores" | "gate" | "decay" | "factor" | "change";
  /** [batch, time, n] of tokens, [units, n] of units, or [n] of a part as a whole. */
  readonly over: "tokens" | "units" | "part";
  /** What the last axis' places are. */
  readonly labels?: readonly string[] | undefined;
  /** Of an entropy: what it is where all is even. */
  readonly most?: number;
}

export interface Revealed extends About {
  /** The part: `layers.3.mlp`. */
  readonly path: string;
  readonly name: string;
  readonly value: Tensor;
}

let seen: Revealed[] | undefined;

/** Tells of a value by a name of the part's own. */
export function reveal(name: string, about: About, value: () => Tensor): void {
  seen?.push({ path: currentPath(), name, ...about, value: value() });
}

/** Runs `body` and gives what was told meanwhile, in its order; a part that runs twice tells twice. */
export function revealing<T>(body: () => T): { result: T; revealed: readonly Revealed[] } {
  const outer = seen, found: Revealed[] = [];
  seen = found;
  try {
    return { result: body(), revealed: found };
  } finally {
    seen = outer;
  }
}
