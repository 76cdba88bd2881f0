/** Parameters that rest: neither they nor what the optimizer keeps of them changes. */

import { z } from "zod";
import { element, mul } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import { type PathPattern, pathPattern, takesPath } from "./paths.ts";
import type { OptimizerParam } from "./record.ts";
import { type Clock, spanConfig } from "./span.ts";

/** Some parameters, and until when they rest. */
const freeze = z.strictObject({
  /** Those whose path one of these fits, `*` standing for any text; a part of the model has all in it; left out: all. */
  params: z.array(pathPattern).min(1).optional(),
  /** But not those whose path one of these fits. */
  except: z.array(pathPattern).min(1).optional(),
  /** Counted from the start of the run. Left out: always, and then nothing is kept of them. */
  until: spanConfig.optional(),
});

export const freezeConfig = z.array(freeze).meta({ id: "freeze" }).default([]);
export type FreezeConfig = z.output<typeof freezeConfig>;

/** Which entries a parameter belongs to, by number. */
export function frozenBy(config: FreezeConfig, { path }: Pick<OptimizerParam, "path">): number[] {
  const fits = (patterns: readonly PathPattern[]) => takesPath(patterns, path);
  return [...config.keys()].filter((i) => {
    const { params, except = [] } = config[i];
    return (params === undefined || fits(params)) && !fits(except);
  });
}

/** Whether an entry lasts for the whole run. */
export function isForGood({ until }: FreezeConfig[number]): boolean {
  return until === undefined;
}

/** For each entry, 0 while it lasts and 1 after: the words of update `step`, counted from 0. */
export function thawWords(config: FreezeConfig, clock: Clock): (step: number) => number[] {
  const ends = config.map(({ until }) => until === undefined ? Infinity : clock.stepsOf(until));
  return (step) => ends.map((end) => step < end ? 0 : 1);
}

/** 1 where a parameter is trained, 0 while one of its entries lasts; undefined for one that has none. [] f32. */
export function thawOf(entries: readonly number[], words: Tensor): Tensor | undefined {
  const thaws = entries.map((i) => element(words, i));
  return thaws.length > 0 ? thaws.reduce(mul) : undefined;
}
