/** Rows as plans take them: their shape, their specs, and a batch as uploads. */

import type { Batch } from "../data/batches.ts";
import { type Spec, spec } from "../graph/mod.ts";
import { type Model, type RunPoint, runSpecs, type RunUse, runValues } from "../model/mod.ts";

/** What rows look like on the device. */
export interface RowShape {
  readonly rows: number;
  readonly length: number;
  /** Rows hold several documents. */
  readonly segments: boolean;
}

function rowSpecs({ rows, length, segments }: RowShape): Record<string, Spec> {
  const tokens = spec([rows, length], "i32");
  return {
    ids: tokens,
    targets: tokens,
    positions: tokens,
    ...(segments ? { segment_ids: tokens } : {}),
  };
}

/** Rows and what they bring for the model's parts. */
export function toldRows(model: Model, shape: RowShape, use: RunUse): Record<string, Spec> {
  return { ...rowSpecs(shape), ...runSpecs(model, shape.rows, use) };
}

/** A batch's uploads. `firstRow` of the update that it is a part of. */
export function rowInputs(
  model: Model,
  batch: Batch,
  { shape, point, use, firstRow = 0 }: {
    readonly shape: RowShape;
    readonly point: RunPoint;
    readonly use: RunUse;
    readonly firstRow?: number;
  },
): Record<string, Int32Array | Float32Array | Uint32Array> {
  const told = runValues(model, point, use, { rows: shape.rows, firstRow });
  return {
    "rows.ids": batch.ids,
    "rows.targets": batch.targets,
    "rows.positions": batch.positions,
    ...(shape.segments ? { "rows.segment_ids": batch.segmentIds } : {}),
    ...Object.fromEntries(Object.entries(told).map(([name, x]) => [`rows.${name}`, x])),
  };
}

/** How many targets a batch has. */
export function countOf({ targets }: Batch): number {
  return targets.reduce((count, target) => count + (target < 0 ? 0 : 1), 0);
}
