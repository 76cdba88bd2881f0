/** What a run writes. */

import { bytesInside, freeBytesAt } from "../io/disk.ts";
import { formatBytes, plural } from "../io/words.ts";
import { sizeOf } from "../graph/mod.ts";
import { buildModel, namedParams } from "../model/mod.ts";
import { averageSpecs, type Span } from "../optim/mod.ts";
import { optimizerOf } from "./optimizer.ts";
import { checkpointsFolder } from "./checkpoint.ts";
import type { RunConfig } from "./config.ts";
import { timelineOf } from "./timeline.ts";

/** Bytes on disk at the moment when they are the most. */
export interface DiskUse {
  readonly checkpointBytes: number;
  /** That lie there at once, one being written among them. */
  readonly checkpoints: number;
  readonly metricsBytes: number;
  readonly totalBytes: number;
}

export function diskUse(config: RunConfig): DiskUse {
  const checkpointBytes = checkpointBytesOf(config);
  const checkpoints = checkpointsAtOnce(config), metricsBytes = metricsBytesOf(config);
  return {
    checkpointBytes,
    checkpoints,
    metricsBytes,
    totalBytes: checkpoints * checkpointBytes + metricsBytes,
  };
}

/** Weights, averages of them and all that the optimizer keeps, four bytes each. */
function checkpointBytesOf({ model, optimizer, averages }: RunConfig): number {
  const params = namedParams(buildModel(model).params);
  const kept = [optimizerOf(optimizer, params).buffers, averageSpecs(averages, params)]
    .flatMap((all) => Object.values(all)).flatMap((one) => Object.values(one));
  return 4 * [...params, ...kept].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}

/** A new checkpoint is whole before an old one goes. */
function checkpointsAtOnce(config: RunConfig): number {
  const { every, keep, keep_best } = config.checkpoint, written = timesOf(config, every);
  return keep > 0 ? Math.min(keep + keep_best + 1, written) : written;
}

/** A line of `metrics.jsonl` has about so many bytes. */
const metricsLine = 140;

function metricsBytesOf(config: RunConfig): number {
  const { log_every, validation: { every } } = config;
  return metricsLine * (timesOf(config, log_every) + timesOf(config, every));
}

/**
 * How often something is done that is done every `span` and at the end. Nobody knows where only time ends the run: it counts
 * as a thousand updates there.
 */
function timesOf(config: RunConfig, span: Span): number {
  const { end, timesBy } = timelineOf(config);
  return 1 + timesBy((end === Infinity ? 1000 : end) - 1, span);
}

/** A disk with too little room. */
export interface DiskShortage {
  readonly message: string;
  readonly hint: string;
}

/** Says what is missing where a run's disk cannot hold all that the run will write; undefined where it can or does not say. */
export async function diskShortage(
  config: RunConfig,
  run: string,
): Promise<DiskShortage | undefined> {
  const free = await freeBytesAt(run), use = diskUse(config);
  const needed = use.totalBytes - await bytesInside(checkpointsFolder(run));
  if (free === undefined || needed <= free) return undefined;
  const { keep, keep_best } = config.checkpoint;
  const least = (2 + keep_best) * use.checkpointBytes + use.metricsBytes;
  const fewer = keep !== 1 && least < use.totalBytes
    ? `checkpoint.keep=1 needs ${formatBytes(least)}; or `
    : "";
  return {
    message: `the run writes up to ${formatBytes(needed)}, of which ${
      plural(use.checkpoints, "checkpoint")
    }, and ${formatBytes(free)} are free on the disk of ${run}`,
    hint: `${fewer}choose an --out on another disk`,
  };
}
