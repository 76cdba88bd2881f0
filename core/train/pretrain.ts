/** Pretraining: a run on token shards. */

import { train, type TrainJob } from "./train.ts";
import type { ResolvedConfig } from "./config.ts";
import type { OpenData } from "./data.ts";
import type { TrainEvent } from "./events.ts";
import { shardData } from "./shard_data.ts";

/** A run to be made or continued. */
export interface PretrainJob extends Omit<TrainJob, "config" | "data"> {
  readonly config: ResolvedConfig;
  readonly data: OpenData;
}

/** See `train`. */
export function pretrain({ config, data, ...job }: PretrainJob): AsyncGenerator<TrainEvent, void> {
  return train({ ...job, config, data: shardData(data, config) });
}
