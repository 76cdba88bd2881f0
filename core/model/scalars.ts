/** The scheduled values of a model's parts, gathered into one vector. */

import { element } from "../../kernels/mod.ts";
import { ShapeError, type Tensor } from "../graph/mod.ts";
import type { Schedule } from "../optim/schedule.ts";
import type { Parts } from "./bind.ts";

/** A value that follows a schedule, and the parts that read it. */
export interface ScheduledScalar {
  /** What its parts call it: `tau`. */
  readonly name: string;
  readonly schedule: Schedule;
  /** Paths of the parts: `layers.3.mlp`. */
  readonly readers: readonly string[];
}

/** One entry for all parts that call a value alike and schedule it alike. */
export function scalarsOf({ input, layers }: Parts): ScheduledScalar[] {
  const found = new Map<string, ScheduledScalar & { readers: string[] }>();
  const collect = (path: string, scalars: Readonly<Record<string, Schedule>>) => {
    for (const [name, schedule] of Object.entries(scalars)) {
      const key = JSON.stringify([name, schedule]), known = found.get(key);
      if (known) known.readers.push(path);
      else found.set(key, { name, schedule, readers: [path] });
    }
  };
  collect("input", input.scalars);
  layers.forEach(({ mixer, mlp }, i) => {
    collect(`layers.${i}.mixer`, mixer.scalars);
    collect(`layers.${i}.mlp`, mlp.scalars);
  });
  return [...found.values()];
}

/** The values that the part at `path` reads, by name, from a vector with one for each of `all`. */
export function readScalars(
  all: readonly ScheduledScalar[],
  path: string,
  values: Tensor | undefined,
): Record<string, Tensor> {
  const own = all.flatMap(({ name, readers }, i) => readers.includes(path) ? [{ name, i }] : []);
  if (own.length === 0) return {};
  if (!values) throw new ShapeError(`${path} needs values of ${own.map(({ name }) => name)}`);
  return Object.fromEntries(
    own.map(({ name, i }) => [name, element(values, i)]),
  );
}
