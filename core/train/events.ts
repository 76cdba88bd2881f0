/** What happens in a training run, for whoever shows it. */

import type { DamagedCheckpoint } from "./damaged.ts";
import type { StopReason } from "../generate/generate.ts";
import type { AverageKind } from "../optim/mod.ts";
import type { RouterFaults } from "./router_health.ts";
import type { UpdateSizes } from "./timeline.ts";
import type { HeldOut } from "./validation.ts";
import type { Watched } from "./watched.ts";

export interface StepEvent {
  readonly kind: "step";
  /** Updates done, this one included. */
  readonly step: number;
  /** Mean loss of the update's targets, in nats. */
  readonly loss: number;
  /** Length of the mean gradient before clipping. */
  readonly norm: number;
  readonly learningRate: number;
  /** Targets trained on since the run's first step. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Of a mixture: the targets by source. */
  readonly tokensBySource?: Readonly<Record<string, number>>;
  /** Scheduled values of the model, and what its parts watch. */
  readonly watched: Watched;
  /** Of a model with routers: limits of `router_health` that are broken. */
  readonly routerHealth?: RouterFaults;
}

/** A text from the weights of a step. */
export interface SampleEvent {
  readonly kind: "sample";
  readonly step: number;
  /** What is continued; where texts are conversations, what a user says. */
  readonly prompt: string;
  /** Where the text is an answer to it. */
  readonly form?: "answer";
  /** What came after the prompt. */
  readonly text: string;
  readonly reason: StopReason;
  readonly tokens: number;
  /** Gives the same text again. */
  readonly seed: number;
}

export type TrainEvent =
  | { readonly kind: "start"; readonly step: number; readonly deviceBytes: number }
  /** Left-overs of a killed process, which were removed. */
  | { readonly kind: "partials"; readonly names: readonly string[] }
  /** A checkpoint that is not what was written; the run goes on from one before it. */
  | ({ readonly kind: "damaged" } & DamagedCheckpoint)
  /** The run's lock was taken over from a process that was killed. */
  | { readonly kind: "takeover"; readonly pid: number }
  /** The run was begun before and has no checkpoint: it is started over. */
  | { readonly kind: "restart" }
  | StepEvent
  /** The updates after this step have other sizes. */
  | ({ readonly kind: "stage"; readonly step: number } & UpdateSizes)
  /** `weights`: which average of them was measured, if not they themselves. */
  | { readonly kind: "validation"; readonly step: number; readonly weights?: AverageKind } & HeldOut
  | SampleEvent
  /** A file that tells of the run, and that nothing depends on, could not be written; told once. */
  | { readonly kind: "unrecorded"; readonly path: string; readonly message: string }
  | { readonly kind: "checkpoint"; readonly step: number; readonly path: string }
  | {
    readonly kind: "end";
    readonly step: number;
    readonly reason: EndReason;
    readonly tokensBySource?: Readonly<Record<string, number>>;
  };

/** How far a measurement of what is held out has come. */
export interface Measuring {
  readonly step: number;
  /** Which average of the weights, if not they themselves. */
  readonly weights?: AverageKind;
  /** Of all targets; 0 at the beginning. */
  readonly part: number;
}

/** `early_stop`: the validation loss fell no more; `steps`, `tokens`: all done; `finished`: they were before; `time`: max_minutes are over; `interrupted`: the signal asked. */
export type EndReason = "steps" | "tokens" | "early_stop" | "finished" | "time" | "interrupted";
