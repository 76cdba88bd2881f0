/** The rows of updates, from the data and a cursor. */

import type { Batch } from "../data/batches.ts";
import { type DataCursor, nextRows, type RowSource } from "../data/mixture.ts";
import { microRows, type ResolvedConfig } from "./config.ts";
import type { OpenData } from "./data.ts";
import { sharesOf } from "./data_config.ts";
import type { Stage, Timeline } from "./timeline.ts";

export interface UpdateRows {
  /** Of the update that begins at a cursor, after `step` updates: its parts, and where the rows after them begin. */
  partsAt(stage: Stage, cursor: DataCursor, step: number): { parts: Batch[]; next: DataCursor };
}

export function updateRows(
  { data: dataConfig, seed }: ResolvedConfig,
  data: OpenData,
  timeline: Timeline,
): UpdateRows {
  const sharesAt = sharesOf(dataConfig, timeline);
  const splits = data.sources.map(({ shards }) => shards.splits.train);
  const sourceOf = (stage: Stage): RowSource => ({
    splits,
    rows: microRows(stage),
    length: stage.sequence_length,
    seed,
    sharesAt,
  });
  return {
    partsAt(stage, cursor, step) {
      const parts: Batch[] = [], source = sourceOf(stage);
      for (let i = 0; i < stage.accumulation; i++) {
        const { batch, cursor: next } = nextRows(source, cursor, step);
        parts.push(batch);
        cursor = next;
      }
      return { parts, next: cursor };
    },
  };
}
