/** Tables of the names that published checkpoints give their tensors, and of what those are to us. */

import type { z } from "zod";
import type { mixerConfig, mlpConfig } from "../nn/mod.ts";
import type { Step } from "./steps.ts";

/** Where a parameter of ours stands, for what rules depend on. */
export interface Place {
  /** The number that `{i}` stood for. */
  readonly i: number;
  /** The number that `{j}` stood for. */
  readonly j: number;
  /** How many parameters before it the same rule named. */
  readonly n: number;
  /** Layers of the model. */
  readonly layers: number;
  readonly hidden_size: number;
  /** Configs of layer i's parts; undefined outside layers. */
  readonly mixer: z.output<typeof mixerConfig> | undefined;
  readonly mlp: z.output<typeof mlpConfig> | undefined;
}

/** `{i}`, `{j}` and `{n}` stand for the numbers of a `Place`. */
export interface Rule {
  /** Our path. */
  readonly ours: string;
  /** The name there. */
  readonly theirs: string;
  /** Whether the rule holds there; it does unless given. */
  readonly when?: (place: Place) => boolean;
  /** From theirs to ours; unless given they are alike. */
  readonly steps?: (place: Place) => readonly Step[];
}

export interface ImportTable {
  readonly name: string;
  /** The first that fits a parameter of ours is taken. */
  readonly rules: readonly Rule[];
  /** Names of the input's table and of the output matrix: where they are shared, a file may hold both, or either. */
  readonly tied: readonly [embedding: string, head: string];
  /** What is no parameter, and why it is dropped; `*` stands for anything. */
  readonly ignored: readonly (readonly [pattern: string, why: string])[];
}

/** The numbers that a pattern's places stand for in a name; undefined where it is not of that form. */
export function matchPattern(
  pattern: string,
  name: string,
): Readonly<Record<string, number>> | undefined {
  const source = pattern.replaceAll(
    /[.*]|\{(\w)\}/g,
    (found, place) => place ? `(?<${place}>\\d+)` : found === "*" ? ".*" : "\\.",
  );
  const groups = name.match(new RegExp(`^${source}$`));
  return groups
    ? Object.fromEntries(Object.entries(groups.groups ?? {}).map(([k, n]) => [k, Number(n)]))
    : undefined;
}

/** A pattern with the numbers of a place put in. */
export function fillPattern(pattern: string, place: Place): string {
  return pattern.replaceAll(/\{([ijn])\}/g, (_, key: "i" | "j" | "n") => String(place[key]));
}

/** Why a tensor of theirs is of no use to us; undefined where a table does not say so. */
export function ignoredBecause({ ignored }: ImportTable, name: string): string | undefined {
  return ignored.find(([pattern]) => matchPattern(pattern, name))?.[1];
}

/** Whether a table has anything to say of a name. */
export function knowsName(table: ImportTable, name: string): boolean {
  return table.tied.includes(name) || ignoredBecause(table, name) !== undefined ||
    table.rules.some(({ theirs }) => matchPattern(theirs, name));
}
