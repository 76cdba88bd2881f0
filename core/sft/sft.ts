/** Supervised fine-tuning: a run on conversations, from a model that is there. */

import type { TrainEvent } from "../train/events.ts";
import { train, type TrainJob } from "../train/train.ts";
import type { ResolvedSft } from "./config.ts";
import { conversationData, type OpenConversations } from "./data.ts";

/** A run to be made or continued. */
export interface SftJob extends Omit<TrainJob, "config" | "data"> {
  readonly config: ResolvedSft;
  readonly conversations: OpenConversations;
}

/** See `train`. */
export function sft({ config, conversations, ...job }: SftJob): AsyncGenerator<TrainEvent, void> {
  return train({ ...job, config, data: conversationData(conversations, config) });
}
