/**
 * How a training run is shown: a live line and notes on stderr, the result on stdout, or JSON lines.
 *
 * @module
 */
import type {
  EndReason,
  Measured,
  Measuring,
  SampleEvent,
  StepEvent,
  Timeline,
  TrainEvent,
  TrainJob,
} from "../core/train/mod.ts";
import { plural } from "../core/io/words.ts";
import { RouterStory } from "./train_router.ts";
import { givenText } from "./train_sources.ts";
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

/** Trains, and follows the run to its end. */
export async function showTraining(
  job: TrainJob,
  { json, quiet, summary }: Conversation,
): Promise<Ending> {
  const progress = progressLine(quiet || json ? "quiet" : "normal");
  const { timelineOf, timesOf, train } = await import("../core/train/mod.ts");
  const measurements = (from: number) => timesOf(job.config, from).validations;
  const story = new Story(job, timelineOf(job.config), measurements);
  const onMeasuring = (at: Measuring) => story.measuring(at, progress);
  try {
    for await (const event of train({ ...job, onMeasuring })) {
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
  early_stop: " (early_stop: the validation loss fell no more)",
};

function summaryOf({ reason, step, validation, given }: Ending, seconds: number): string {
  if (reason === "finished") {
    return `finished before: ${plural(step, "step")} are done; nothing was changed`;
  }
  return `step ${formatCount(step)}${limits[reason] ?? ""}${
    validation ? `, ${validationText(validation)}` : ""
  }, ${formatDuration(seconds)}${given ? `\n${givenText(given)}` : ""}`;
}

/** What the time left follows from. */
export interface Pace {
  /** Since this process began, measuring included. */
  readonly seconds: number;
  /** Work done in that time, and to be done. */
  readonly done: number;
  readonly ahead: number;
  /** Of `seconds`, and those that are ahead. */
  readonly measuring?: { readonly spent: number; readonly ahead: number };
}

/** How long a run goes on at the pace of the steps that this process has done, or until its time is up. */
export function secondsLeft(
  { done, seconds, ahead, measuring = { spent: 0, ahead: 0 } }: Pace,
  maxMinutes: number,
): number {
  const limit = maxMinutes > 0 ? 60 * maxMinutes - seconds : Infinity;
  const updates = (seconds - measuring.spent) / done * ahead;
  return Math.max(0, Math.min(updates + measuring.ahead, limit));
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

  /** Measurements of the run that are ahead at first, and what those that are done took. */
  #toMeasure: number | undefined;
  #measured = { count: 0, seconds: 0, began: 0 };

  constructor(
    readonly job: TrainJob,
    timeline: Timeline,
    readonly measurementsAfter: (step: number) => number,
  ) {
    this.#timeline = timeline;
  }

  /** A measurement begins or goes on. */
  measuring({ step, weights, part }: Measuring, progress: Progress): void {
    if (part === 0) this.#measured.began = performance.now();
    const what = weights === undefined ? "" : ` ${weights} of the weights`;
    progress.update(() =>
      `step ${formatCount(step)}: measuring${what} ${Math.floor(100 * part)} %`
    );
  }

  #hasMeasured(): void {
    const { count, seconds, began } = this.#measured;
    const took = (performance.now() - began) / 1000;
    this.#measured = { count: count + 1, seconds: seconds + took, began };
  }

  /** Of measurements; those ahead take what the others took, if there was one. */
  #measuringTime(): { spent: number; ahead: number } {
    const { count, seconds } = this.#measured;
    if (count === 0) return { spent: 0, ahead: 0 };
    this.#toMeasure ??= this.measurementsAfter(this.#firstStep);
    return { spent: seconds, ahead: Math.max(0, this.#toMeasure - count) * seconds / count };
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
        this.#hasMeasured();
        if (event.weights === undefined) this.#validation = event;
        progress.note(`step ${formatCount(event.step)}: ${validationText(event)}`);
        break;
      case "sample":
        progress.note(sampleText(event));
        break;
      case "unrecorded":
        progress.note(`warning: ${event.path} could not be written: ${event.message}`);
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
    const left = secondsLeft(
      { done, seconds: this.seconds(), ahead, measuring: this.#measuringTime() },
      max_minutes,
    );
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
function sampleText({ step, prompt, form, text, seed }: SampleEvent): string {
  const whole = form === "answer" ? `user: ${prompt}\nassistant: ${text}` : prompt + text;
  const lines = whole.replace(
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
