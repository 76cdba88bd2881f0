/** Rows as plans take them: their shape, their specs, and a batch as uploads. */

import type { Batch } from "../data/batches.ts";
import { type Spec, spec } from "../graph/mod.ts";
import { type Model, type RunPoint, runSpecs, type RunUse, runValues } from "../model/mod.ts";
import { microRows, type RunConfig } from "./config.ts";
import type { UpdateSizes } from "./timeline.ts";

/** What rows look like on the device. */
export interface RowShape {
  readonly rows: number;
  readonly length: number;
  /** Rows hold several documents. */
  readonly segments: boolean;
  /** Targets count differently; they count alike unless given. */
  readonly weights?: boolean;
}

/** What rows of each packing hold. */
const forms: Readonly<
  Record<RunConfig["data"]["packing"], Pick<RowShape, "segments" | "weights">>
> = {
  documents: { segments: true },
  windows: { segments: false },
  stream: { segments: false },
  packed: { segments: true, weights: true },
  buckets: { segments: false, weights: true },
};

/** The rows of a part of an update, in one length or, the shortest first, in several with about as many tokens each. */
export function rowShapes({ data }: RunConfig, sizes: UpdateSizes): RowShape[] {
  const { sequence_length } = sizes, { packing, bucket_lengths = [] } = data;
  const lengths = [...bucket_lengths.filter((length) => length < sequence_length), sequence_length];
  return lengths.map((length) => ({
    rows: Math.floor(microRows(sizes) * sequence_length / length),
    length,
    ...forms[packing],
  }));
}

function rowSpecs({ rows, length, segments, weights }: RowShape): Record<string, Spec> {
  const tokens = spec([rows, length], "i32");
  return {
    ids: tokens,
    targets: tokens,
    positions: tokens,
    ...(segments ? { segment_ids: tokens } : {}),
    ...(weights ? { weights: spec([rows, length]) } : {}),
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
    ...(shape.weights ? { "rows.weights": batch.weights ?? evenWeights(batch) } : {}),
    ...Object.fromEntries(Object.entries(told).map(([name, x]) => [`rows.${name}`, x])),
  };
}

function evenWeights({ targets }: Batch): Float32Array {
  return Float32Array.from(targets, (target) => target < 0 ? 0 : 1);
}
