/** What a run watches of its model: its scheduled values, and what its parts tell. */

import type { Model, RunPoint } from "../model/mod.ts";
import type { UpdateResult } from "./trainer.ts";

/** Numbers by name; several where a part tells several. */
export type Watched = Readonly<Record<string, number | readonly number[]>>;

/**
 * The scheduled values of an update, one for each name (of the first that goes by it), and means over its `count` targets
 * of what parts tell.
 */
export function watchedOf(
  { scalars }: Pick<Model, "scalars">,
  point: Pick<RunPoint, "scalars">,
  { metrics, count }: Pick<UpdateResult, "metrics"> & { readonly count: number },
): Watched {
  const scheduled = scalars.map(({ name }, i) => [name, point.scalars[i]] as const).toReversed();
  const told = Object.entries(metrics).map(([name, sums]) => {
    const means = sums.map((sum) => sum / count);
    return [name, means.length === 1 ? means[0] : means] as const;
  });
  return { ...Object.fromEntries(scheduled), ...Object.fromEntries(told) };
}
