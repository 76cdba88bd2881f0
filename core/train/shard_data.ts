/** Token shards as what a run trains on. */

import { join, resolve } from "node:path";
import { countTargets, validationBatches } from "../data/batches.ts";
import { nextRows, packingOf, type ShardCursor } from "../data/mixture.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ResolvedConfig } from "./config.ts";
import {
  fingerprintOf,
  firstDataCursor,
  holdsOut,
  type OpenData,
  type OpenSource,
  requireAllTargets,
  requireSameData,
  tokensBySource,
} from "./data.ts";
import { sharesOf } from "./data_config.ts";
import { timelineOf } from "./timeline.ts";
import type { HeldOutData, TrainingData } from "./training_data.ts";

/** A folder of data in a manifest; runs of older versions lack the absolute path. */
export interface DataRecord {
  readonly path: string;
  readonly absolute_path?: string;
  readonly sha256: string;
}

/** The data of a config; whoever opened them closes them. */
export function shardData(data: OpenData, config: ResolvedConfig): TrainingData {
  const { sources, isMixture, tokenizer } = data, { seed, data: { packing } } = config;
  const sharesAt = sharesOf(config.data, timelineOf(config));
  const splits = sources.map(({ shards }) => shards.splits.train);
  const records = sources.map(recordOf);
  const named = sources.map(({ shards: { folder, hash } }) => ({ hash, where: folder }));
  return {
    tokenizer,
    vocabSize: data.vocabSize,
    beginning: packing === "documents" ? tokenizer.endOfText : undefined,
    first: firstDataCursor(data, packing),
    next: (cursor, { step, shapes: [{ rows, length }] }) =>
      nextRows({ splits, rows, length, seed, sharesAt }, cursor as ShardCursor, step),
    isMixture,
    tokensBySource: (cursor) => tokensBySource(sources, cursor),
    heldOut: sources.filter(holdsOut).map((source) => heldOutOf(source, packing)),
    fingerprint: fingerprintOf(records, isMixture),
    record: isMixture ? { sources: records } : records[0],
    place: (folder) => {
      const { file } = sources[0].shards.index.tokenizer;
      return writeFileAtomic(join(folder, file), tokenizer.file);
    },
    requireSame(checkpoint) {
      requireSameData(checkpoint, named, isMixture);
      requireSamePacking(checkpoint, packing);
    },
    requireRows: (length) => requireAllTargets(data, packing, length),
  };
}

function heldOutOf(
  { name, shards: { splits: { val } } }: OpenSource,
  packing: ResolvedConfig["data"]["packing"],
): HeldOutData {
  return {
    name,
    batches: ([{ rows, length }], maxTargets) =>
      validationBatches({ split: val, rows, length }, packing, maxTargets),
    count: (maxTargets) => Math.min(maxTargets, countTargets(val, packing)),
    size: val,
  };
}

function recordOf({ path, shards: { folder, hash } }: OpenSource): DataRecord {
  return { path, absolute_path: resolve(folder), sha256: hash };
}

function requireSamePacking({ state: { cursor } }: Checkpoint, now: string): void {
  const packing = packingOf(cursor);
  if (packing === now) return;
  throw new UserError(`the run packs ${packing}, not ${now}`, {
    where: "data.packing",
    hint: "packing cannot change within a run",
  });
}
