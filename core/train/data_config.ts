/** The part of a config that names the data: one folder, or several with weights that may change over the run. */

import { z } from "zod";
import { packings } from "../data/batches.ts";
import {
  type Clock,
  type Curve,
  curveOf,
  knotsOf,
  type Schedule,
  scheduleOf,
} from "../optim/mod.ts";

import type { Timeline } from "./timeline.ts";

const folder = z.string().min(1);

/** The part of the rows that come from a source: its weight over the sum of all at the step. 0 gives none. */
export const weight = scheduleOf(z.number().nonnegative());

export const dataConfig = z.strictObject({
  /** A folder that `quern tokenize` wrote, or one of NAME_train_*.bin and NAME_val_*.bin as modded-nanogpt writes them. */
  path: folder.optional(),
  /** In place of `path`: several such folders, made with one tokenizer. Each has epochs of its own. */
  sources: z.array(z.strictObject({ path: folder, weight })).min(1).optional().meta({
    examples: [[{ path: "data/web", weight: 0.7 }, { path: "data/code", weight: 0.3 }]],
  }),
  /**
   * `documents`: each once an epoch, packed, kept apart. `windows`: random windows of the text as one long
   * row. `stream`: that row from its start to its end, and again.
   */
  packing: z.enum(packings).default("documents"),
});

export type DataConfig = z.output<typeof dataConfig>;

/** What is wrong with the data of a config, and at which path; no message: nothing. */
export function dataFault({ path, sources }: DataConfig): [string[], string | undefined] {
  if (path !== undefined && sources !== undefined) {
    return [
      ["data", "sources"],
      "there is a path, too: one of them only (--set 'data={sources: [...]}' drops it)",
    ];
  }
  const isMissing = path === undefined && sources === undefined;
  const missing = "missing: path (a folder of token shards) or sources (several, with weights)";
  return [["data"], isMissing ? missing : undefined];
}

/** Sources with weights, whatever they are sources of; one that has no weight has as much as 1. */
export interface WeighedSources {
  readonly sources?: readonly { readonly weight?: Schedule | undefined }[] | undefined;
}

/** Says at which step no source has a weight, if there is one. */
export function restFault(data: WeighedSources, clock: Clock): string | undefined {
  const weights = weightsOf(data, clock), last = clock.steps - 1;
  // between two knots a weight rises, falls or stays: what is 0 there is 0 beside a knot, too
  const steps = knotsOfAll(data, clock).flatMap((knot) => [knot - 1, knot, knot + 1]);
  const resting = [0, ...steps, last].filter((step) => step >= 0 && step <= last).sort((a, b) =>
    a - b
  )
    .find((step) => weights.every((weight) => weight(step) === 0));
  return resting === undefined ? undefined : `every weight is 0 at step ${resting}`;
}

function weightsOf({ sources }: WeighedSources, clock: Clock): Curve[] {
  return sources?.map(({ weight = 1 }) => curveOf(weight, clock)) ?? [() => 1];
}

function knotsOfAll({ sources = [] }: WeighedSources, clock: Clock): number[] {
  return sources.flatMap(({ weight = 1 }) => knotsOf(weight, clock));
}

/** The sources' shares of the rows of a step, counted from 0; they sum to 1. */
export function sharesOf(data: WeighedSources, clock: Clock): (step: number) => number[] {
  const weights = weightsOf(data, clock);
  return (step) => {
    const now = weights.map((weight) => weight(step)), sum = now.reduce((a, b) => a + b, 0);
    return now.map((weight) => weight / sum);
  };
}

/** Steps that are looked at between two knots, at most: more would not show in what is printed. */
const looks = 1024;

/**
 * The sources' shares of what a whole run trains on. Of a run that only time ends nobody knows how long its weights stay as
 * they are at last: these are its shares.
 */
export function sharesOfRun(data: WeighedSources, timeline: Timeline): number[] {
  const { end, tokensAt, stages } = timeline, sharesAt = sharesOf(data, timeline);
  const changes = [...knotsOfAll(data, timeline), ...stages.map(({ from }) => from)];
  if (end === Infinity) return sharesAt(Math.max(...changes));
  const knots = [...changes.filter((knot) => knot > 0 && knot < end), end];
  const sums = sharesAt(0).map(() => 0);
  let from = 0;
  for (const to of knots.sort((a, b) => a - b)) {
    const parts = Math.min(looks, to - from),
      edge = (i: number) => from + Math.floor((to - from) * i / parts);
    for (let i = 0; i < parts; i++) {
      const [first, next] = [edge(i), edge(i + 1)];
      const tokens = tokensAt(next) - tokensAt(first);
      sharesAt((first + next - 1) / 2).forEach((share, j) => sums[j] += share * tokens);
    }
    from = to;
  }
  return sums.map((sum) => sum / tokensAt(end));
}

/** Where sources lie; one may lie at several places. */
export interface DataPlaces {
  readonly path?: string | readonly string[] | undefined;
  readonly sources?: readonly { readonly path: string | readonly string[] }[] | undefined;
}

/** The places of each source of a config, in order. */
export function placesOf({ path, sources }: DataPlaces): (readonly string[])[] {
  const list = (path: string | readonly string[]) => typeof path === "string" ? [path] : path;
  return sources?.map(({ path }) => list(path)) ?? [list(path!)];
}

/** Each source's place, in order; several of one as a text. */
export function dataPaths(data: DataPlaces): string[] {
  return placesOf(data).map((places) => places.join(" "));
}

/** The field that says the folder of a source: "data.path", "data.sources.1.path". */
export function pathField({ sources }: DataConfig, source: number): string {
  return sources ? `data.sources.${source}.path` : "data.path";
}
