/** When things happen in a run: where its stages begin, where it ends, and what its spans are in steps. */

import {
  type Clock,
  parseSpan,
  partOf,
  type Span,
  type TokenCount,
  tokensOf,
} from "../optim/mod.ts";
import type { BatchSizes } from "./config.ts";

/** Whether so much training is all that a config asks for, and what says so. */
export function doneBy(
  { steps, max_tokens }: Pick<TimelineConfig, "steps" | "max_tokens">,
  done: { readonly step: number; readonly tokens: number },
): "steps" | "tokens" | undefined {
  if (steps !== undefined && done.step >= steps) return "steps";
  if (max_tokens !== undefined && done.tokens >= tokensOf(max_tokens)) return "tokens";
  return undefined;
}

/** The sizes of an update. */
export interface UpdateSizes extends BatchSizes {
  readonly sequence_length: number;
}

/** What a config says of the lengths of a run. */
export interface TimelineConfig extends UpdateSizes {
  readonly steps?: number | undefined;
  readonly max_tokens?: TokenCount | undefined;
  readonly stages: readonly ({ readonly from: Span } & Optional<UpdateSizes>)[];
}

type Optional<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Updates of one kind. */
export interface Stage extends UpdateSizes {
  /** The updates before it, and what they trained on. */
  readonly from: number;
  readonly tokensBefore: number;
}

/**
 * A part of a run is one of its steps, or of its tokens where `max_tokens` alone says how long it is. Every row of a training
 * batch is full, so tokens are known for each step in advance.
 */
export interface Timeline extends Clock {
  /** The updates after which steps or tokens end the run; Infinity where only time does. */
  readonly end: number;
  /** At least one, the first from step 0; in their order, none of no length but perhaps the last. */
  readonly stages: readonly Stage[];
  stageAt(step: number): Stage;
  /** What the first `step` updates train on. */
  tokensAt(step: number): number;
  /** How many times something that happens every `span` has happened after `step` updates. */
  timesBy(step: number, span: Span): number;
  /** The most updates from one such time to the next. */
  longestGap(span: Span): number;
}

export function timelineOf(config: TimelineConfig): Timeline {
  const stages = stagesOf(config);
  const { steps = stepsOfTokens(stages, lengthInTokens(config)) } = config;
  const tokensAt = (step: number) => tokensOfSteps(stages, step);
  const stageAt = (step: number) => stages.findLast(({ from }) => from <= step)!;
  const leastTokens = Math.min(...stages.map(perUpdate));
  return {
    steps,
    end: Math.min(steps, stepsOfTokens(stages, lengthInTokens(config))),
    stages,
    stageAt,
    tokensAt,
    stepsOf: (span) => stepsOfSpan(config, stages, span),
    timesBy(step, span) {
      const parts = parseSpan(span);
      if (parts.unit === "steps") return wholeTimes(step, parts.count);
      const tokens = tokensAt(step);
      if (parts.unit === "tokens") return wholeTimes(tokens, parts.count);
      const [done, length] = config.steps === undefined
        ? [tokens, lengthInTokens(config)]
        : [step, config.steps];
      return parts.of === 0 || length === Infinity
        ? 0
        : Number(BigInt(done) * BigInt(parts.whole) / (BigInt(length) * BigInt(parts.of)));
    },
    longestGap(span) {
      const parts = parseSpan(span);
      if (parts.unit === "steps") return parts.count;
      if (parts.unit === "tokens") return Math.ceil(parts.count / leastTokens);
      return config.steps === undefined
        ? Math.ceil(lengthInTokens(config) * parts.of / parts.whole / leastTokens)
        : Math.ceil(steps * parts.of / parts.whole);
    },
  };
}

function wholeTimes(done: number, every: number): number {
  return every > 0 ? Math.floor(done / every) : 0;
}

function lengthInTokens({ max_tokens }: TimelineConfig): number {
  return max_tokens === undefined ? Infinity : tokensOf(max_tokens);
}

export function perUpdate({ batch_size, sequence_length }: UpdateSizes): number {
  return batch_size * sequence_length;
}

/**
 * The stage with the longest rows, of several the one with the fewest at once: all stages are measured with its rows, so that
 * losses compare.
 */
export function longestStage(stages: readonly Stage[]): Stage {
  const rows = ({ batch_size, accumulation }: Stage) => batch_size / accumulation;
  return stages.reduce((best, stage) => {
    const longer = stage.sequence_length - best.sequence_length;
    return longer > 0 || (longer === 0 && rows(stage) < rows(best)) ? stage : best;
  });
}

/** Each stage in turn: where it begins depends on those before it alone, whose last goes on until then. */
function stagesOf(config: TimelineConfig): Stage[] {
  const { sequence_length, batch_size, accumulation } = config;
  const stages: Stage[] = [{ from: 0, tokensBefore: 0, sequence_length, batch_size, accumulation }];
  for (const { from: span, ...changes } of config.stages) {
    const before = stages.at(-1)!;
    const from = Math.max(before.from, stepsOfSpan(config, stages, span));
    const sizes = changed(before, changes);
    const tokensBefore = tokensOfSteps(stages, from);
    if (from === before.from) stages.pop(); // a stage of no length
    stages.push({ ...sizes, from, tokensBefore });
  }
  return stages;
}

/** Sizes with those of a stage in their place. */
export function changed<S extends object>(sizes: S, changes: Optional<S>): S {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...sizes, ...Object.fromEntries(given) };
}

function tokensOfSteps(stages: readonly Stage[], step: number): number {
  const stage = stages.findLast(({ from }) => from <= step)!;
  return stage.tokensBefore + (step - stage.from) * perUpdate(stage);
}

/** The updates that it takes to train on so many tokens. */
function stepsOfTokens(stages: readonly Stage[], tokens: number): number {
  const stage = stages.findLast(({ tokensBefore }) => tokensBefore < tokens) ?? stages[0];
  return stage.from + Math.max(0, Math.ceil((tokens - stage.tokensBefore) / perUpdate(stage)));
}

function stepsOfSpan(config: TimelineConfig, stages: readonly Stage[], span: Span): number {
  const parts = parseSpan(span);
  if (parts.unit === "steps") return parts.count;
  if (parts.unit === "tokens") return stepsOfTokens(stages, parts.count);
  if (config.steps !== undefined) return partOf(config.steps, parts);
  const tokens = lengthInTokens(config);
  if (parts.of === parts.whole || tokens === Infinity) {
    return stepsOfTokens(stages, partOf(tokens, parts));
  }
  return wholeSteps(stages, partOf(tokens, parts));
}

/** The updates that are done when so many tokens are not yet exceeded: parts of a run are rounded down. */
function wholeSteps(stages: readonly Stage[], tokens: number): number {
  const stage = stages.findLast(({ tokensBefore }) => tokensBefore <= tokens)!;
  return stage.from + Math.floor((tokens - stage.tokensBefore) / perUpdate(stage));
}
