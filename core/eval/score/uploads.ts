/** What a batch tells its plan. */

import { type Model, type RunPoint, runValues } from "../../model/mod.ts";
import type { ScoreBatch, ScoreShape } from "./batches.ts";
import { chunkOf } from "./programs.ts";

type Uploads = Record<string, ArrayLike<number>>;

export function uploadsOf(model: Model, point: RunPoint, batch: ScoreBatch): Uploads {
  const { shape, trunks } = batch;
  const trunk = tokensOf(shape, [shape.trunks, shape.trunkTime]);
  const branch = tokensOf(shape, [shape.branches, shape.branchTime]);
  const inTrunks = new Int32Array(shape.places).fill(-1), inBranches = inTrunks.slice();
  const targets = inTrunks.slice(), chunk = chunkOf(model, shape);
  let branches = 0, place = 0;
  trunks.forEach(({ base, ids, ...trunkRows }, row) => {
    trunk.put(row, ids, { from: 0, start: base });
    for (const one of trunkRows.branches) {
      const at = one.ids.length > 0 ? branches++ : -1;
      if (at >= 0) branch.put(at, one.ids, { from: row, start: base + ids.length });
      const length = ids.length + one.ids.length;
      one.targets.forEach((id, i) => {
        const read = length - one.targets.length + i; // what is read before the target
        if (read < ids.length) inTrunks[place] = row * shape.trunkTime + read;
        else inBranches[place] = at * shape.branchTime + read - ids.length;
        targets[place] = (place % chunk) * model.dims.vocab_size + id;
        place++;
      });
    }
  });
  return {
    ...trunk.named("trunk", toldOf(model, point, batch)),
    inTrunks,
    targets,
    ...(shape.branches > 0 && {
      ...branch.named("branch", runValues(model, point, "measuring", { rows: shape.branches })),
      inBranches,
    }),
  };
}

/** Tokens of rows that go on from others: `from` a row that had `start` tokens. */
function tokensOf(
  { capacity }: Pick<ScoreShape, "capacity">,
  [rows, time]: readonly [number, number],
) {
  const ids = new Int32Array(rows * time), start = new Int32Array(rows);
  const lengths = new Int32Array(rows), origin = new Int32Array(rows);
  const places = new Int32Array(rows * capacity).fill(-1);
  return {
    put(row: number, given: readonly number[], where: { from: number; start: number }) {
      ids.set(given, row * time);
      [start[row], lengths[row], origin[row]] = [where.start, given.length, where.from];
      for (let at = 0; at < where.start; at++) {
        places[row * capacity + at] = where.from * capacity + at;
      }
    },
    named(name: string, told: Uploads): Uploads {
      const all = { ids, start, lengths, "taken.rows": origin, "taken.places": places, ...told };
      return Object.fromEntries(Object.entries(all).map(([key, x]) => [`${name}.${key}`, x]));
    },
  };
}

/** A row's random numbers, of models that draw some, are its own in whatever batch it is. */
function toldOf(model: Model, point: RunPoint, { shape, trunks }: ScoreBatch): Uploads {
  const told = runValues(model, point, "measuring", { rows: shape.trunks });
  const { noise } = told;
  if (noise) trunks.forEach(({ branches: [{ row }] }, i) => noise[3 * i + 2] = row);
  return told;
}
