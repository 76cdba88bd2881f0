/**
 * How a training run is shown: a live line and notes on stderr, the result on stdout, or JSON lines.
 *
 * @module
 */
import type {
  EndReason,
  Measured,
  PretrainJob,
  SampleEvent,
  StepEvent,
  Timeline,
  TrainEvent,
} from "../core/train/mod.ts";
import { plural } from "../core/io/words.ts";
import { RouterStory } from "./pretrain_router.ts";
import { givenText } from "./pretrain_sources.ts";
import { formatBytes, formatCount, formatDuration } from "./ui/numbers.ts";
import { type Progress, progressLine } from "./ui/progress.ts";

/** What is said, and how. */
export interface Conversation {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Whether the result is printed at the end. */
  readonly summary: boolean;
}

type EndEvent = Extract<TrainEvent, { kind: "end" }>;
type ValidationEvent = Extract<TrainEvent, { kind: "validation" }>;

/** How a run ended. */
export interface Ending {
  readonly reason: EndReason;
  readonly step: number;
  readonly validation: ValidationEvent | undefined;
  /** Of a mixture: the targets that each source gave since the run's first step. */
  readonly given: Readonly<Record<string, number>> | undefined;
  /** Over the whole of this process's training, measuring and saving included. */
  readonly tokensPerSecond: number;
}

/** Follows a run to its end. */
export async function showTraining(
  events: AsyncIterable<TrainEvent>,
  job: PretrainJob,
  { json, quiet, summary }: Conversation,
): Promise<Ending> {
  const progress = progressLine(quiet || json ? "quiet" : "normal");
  const { timelineOf } = await import("../core/train/mod.ts");
  const story = new Story(job, timelineOf(job.config));
  try {
    for await (const event of events) {
      if (json) console.log(JSON.stringify(jsonOf(event)));
      story.tell(event, progress);
    }
  } finally {
    progress.end();
  }
  const ending = story.ending();
  if (summary && !json && !quiet && ending.reason !== "interrupted") {
    console.log(`${job.beginning.run}: ${summaryOf(ending, story.seconds())}`);
  }
  return ending;
}

/** Said where it is not the steps that ended a run. */
const limits: Partial<Record<EndReason, string>> = {
  time: " (max_minutes)",
  tokens: " (max_tokens)",
};

function summaryOf({ reason, step, validation, given }: Ending, seconds: number): string {
  if (reason === "finished") {
    return `finished before: ${plural(step, "step")} are done; nothing was changed`;
  }
  return `step ${formatCount(step)}${limits[reason] ?? ""}${
    validation ? `, ${validationText(validation)}` : ""
  }, ${formatDuration(seconds)}${given ? `\n${givenText(given)}` : ""}`;
}

/** How long a run goes on at the pace of the steps that this process has done, or until its time is up. */
export function secondsLeft(
  { done, seconds, ahead }: { done: number; seconds: number; ahead: number },
  maxMinutes: number,
): number {
  const limit = maxMinutes > 0 ? 60 * maxMinutes - seconds : Infinity;
  return Math.max(0, Math.min(seconds / done * ahead, limit));
}

/** What is known of a run so far. */
class Story {
  readonly #began = performance.now();
  #firstStep = 0;
  #bytes = 0;
  #validation: ValidationEvent | undefined;
  #end: Omit<EndEvent, "kind"> = { reason: "steps", step: 0 };

  readonly #timeline: Timeline;
  readonly #router = new RouterStory();

  constructor(readonly job: PretrainJob, timeline: Timeline) {
    this.#timeline = timeline;
  }

  seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }

  tell(event: TrainEvent, progress: Progress): void {
    const { beginning: { run }, device } = this.job;
    switch (event.kind) {
      case "start": {
        [this.#firstStep, this.#bytes] = [event.step, event.deviceBytes];
        const what = event.step > 0 ? `going on from step ${event.step} of` : "training";
        progress.note(`${run}: ${what} ${this.#length()} on ${device.info.name}`);
        break;
      }
      case "stage": {
        const { step, batch_size, sequence_length, accumulation } = event;
        const parts = accumulation > 1 ? ` in ${accumulation} parts` : "";
        progress.note(
          `step ${formatCount(step)}: from here on ${
            plural(batch_size, "row")
          } of ${sequence_length} an update${parts}`,
        );
        break;
      }
      case "partials":
        progress.note(`removed what a stopped process left: ${event.names.join(", ")}`);
        break;
      case "damaged": {
        const kept = event.keptAs === undefined ? "" : `; kept as ${event.keptAs}`;
        progress.note(`${event.path} is damaged: ${event.message}${kept}`);
        break;
      }
      case "restart":
        progress.note(`${run}: it was begun and has no checkpoint; started over`);
        break;
      case "takeover":
        progress.note(`${run}: process ${event.pid} was stopped while it trained; taken over`);
        break;
      case "step":
        for (const line of this.#router.lines(event)) progress.note(line);
        progress.update(() => this.#stepLine(event));
        break;
      case "validation":
        if (event.weights === undefined) this.#validation = event;
        progress.note(`step ${formatCount(event.step)}: ${validationText(event)}`);
        break;
      case "sample":
        progress.note(sampleText(event));
        break;
      case "checkpoint":
        break;
      case "end":
        this.#end = event;
    }
  }

  #length(): string {
    const { end } = this.#timeline;
    return end === Infinity
      ? `for ${formatDuration(60 * this.job.config.max_minutes)}`
      : plural(end, "step");
  }

  #stepLine({ step, loss, learningRate, tokensPerSecond }: StepEvent): string {
    const { max_minutes } = this.job.config, { end, tokensAt } = this.#timeline;
    // by tokens, as another stage's updates may be larger
    const done = tokensAt(step) - tokensAt(this.#firstStep), ahead = tokensAt(end) - tokensAt(step);
    const left = secondsLeft({ done, seconds: this.seconds(), ahead }, max_minutes);
    const of = end === Infinity ? "" : `/${formatCount(end)}`;
    return `step ${formatCount(step)}${of}  loss ${loss.toFixed(4)}  ` +
      `rate ${learningRate.toExponential(2)}  ${formatCount(tokensPerSecond)} tokens/s  ` +
      `${formatDuration(left)} left  ${formatBytes(this.#bytes)}`;
  }

  ending(): Ending {
    const { tokensAt } = this.#timeline;
    const tokens = tokensAt(this.#end.step) - tokensAt(this.#firstStep);
    const { reason, step, tokensBySource } = this.#end;
    return {
      reason,
      step,
      given: tokensBySource,
      validation: this.#validation,
      tokensPerSecond: tokens / this.seconds(),
    };
  }
}

function validationText({ bySource, weights, ...all }: ValidationEvent): string {
  const whose = weights === undefined ? "" : `${weights} of the weights: `;
  const text = ({ loss, bitsPerByte }: Measured) =>
    `${whose}validation loss ${loss.toFixed(4)}, ${inBits(bitsPerByte)}`;
  if (!bySource) return text(all);
  const short = ({ loss, bitsPerByte }: Measured) =>
    [loss, ...Number.isNaN(bitsPerByte) ? [] : [bitsPerByte]].map((x) => x.toFixed(4)).join(", ");
  const parts = Object.entries(bySource).map(([name, one]) => `${name} ${short(one)}`);
  return `${text(all)} (${parts.join("; ")})`;
}

/** Bits per byte, where the data say how many bytes their tokens stand for. */
function inBits(bitsPerByte: number): string {
  return Number.isNaN(bitsPerByte)
    ? "bits a byte not known"
    : `${bitsPerByte.toFixed(4)} bits a byte`;
}

/** The text indented under its step. Bytes that a terminal would obey are shown, not sent. */
function sampleText({ step, prompt, text, seed }: SampleEvent): string {
  const lines = (prompt + text).replace(
    /(?!\n)\p{Cc}/gu,
    (control) => control < " " ? String.fromCharCode(0x2400 + control.charCodeAt(0)) : "\ufffd",
  );
  return `step ${formatCount(step)}: sample, seed ${seed}\n${lines.replace(/^/gm, "  ")}`;
}

/** An event under the names that scripts see; sources keep theirs. */
function jsonOf(value: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      name === "bySource" ? mapValues(value, jsonOf) : value,
    ]),
  );
}

function mapValues<V, R>(map: Readonly<Record<string, V>>, f: (value: V) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(map).map(([name, value]) => [name, f(value)]));
}
