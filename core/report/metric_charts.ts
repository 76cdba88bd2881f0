/** The charts of runs: which numbers of `metrics.jsonl` stand together, and what they are called. */

import { type Axis, type Colour, shortNumber } from "./figure.ts";
import type { Markup } from "./html.ts";
import { type Line, lineChart } from "./line_chart.ts";
import type { RunData } from "./read_run.ts";
import type { Metrics, Series } from "./records.ts";
import { smooth } from "./series.ts";

/** What runs are laid side by side by. */
export type XAxis = "step" | "tokens";
export const xAxes: readonly XAxis[] = ["step", "tokens"];

const axes: Record<XAxis, Axis> = {
  step: { label: "step", unit: "updates" },
  tokens: { label: "tokens", unit: "targets trained on" },
};

/** Numbers that stand in one chart: those whose names begin so. */
interface Group {
  readonly title: string;
  readonly y: Axis;
  readonly note?: string;
  /** Begins as a scale of powers. */
  readonly log?: boolean;
  /** What jumps from step to step: shown smoothed, too, once there is enough of it. */
  readonly isNoisy?: boolean;
  /** What each of several lines is, before its number or name, and what the one is that has none. */
  readonly part?: string;
  readonly whole?: string;
}

const nats = { label: "loss", unit: "nats a token" }, none = "no unit";

/** By what stands before `/` and before a number at a name's end; charts come in this order, others after them. */
const groups: Readonly<Record<string, Group>> = {
  loss: { title: "Loss", y: nats, isNoisy: true },
  validation_loss: { title: "Validation loss", y: nats, whole: "all" },
  bits_per_byte: {
    title: "Bits per byte",
    y: { label: "held-out text", unit: "bits a byte" },
    whole: "all",
  },
  learning_rate: { title: "Learning rate", y: { label: "learning rate", unit: none } },
  norm: {
    title: "Gradient norm",
    y: { label: "norm", unit: "nats a unit of weight" },
    note: "Before clipping.",
    log: true,
    isNoisy: true,
  },
  tokens_per_second: {
    title: "Speed",
    y: { label: "speed", unit: "tokens/s" },
    isNoisy: true,
  },
  tokens_by_source: { title: "Tokens by source", y: { label: "given so far", unit: "tokens" } },
  "router.alpha": {
    title: "Router shares",
    y: { label: "share of the weight", unit: "1 is all" },
    note: "Means over tokens and layers.",
    part: "branch",
  },
  "router.entropy_norm": {
    title: "Router entropy",
    y: { label: "entropy", unit: "1 is that of even shares" },
  },
  static_routing_entropy: {
    title: "Static routing entropy",
    y: { label: "entropy", unit: "nats" },
    part: "layer",
  },
  dynamic_routing_entropy: {
    title: "Dynamic routing entropy",
    y: { label: "entropy", unit: "nats" },
    part: "layer",
  },
};

/** The rest of a name after its group's. */
interface Place {
  readonly group: string;
  readonly part: string;
}

function placeOf(name: string): Place {
  const source = name.match(/^validation_by_source\/(.*)\/(validation_loss|bits_per_byte)$/s);
  if (source) return { group: source[2], part: source[1] };
  const [, group, part = ""] = name.match(/^([^/]*?)(?:\/(.*)|\.(?=\d+$)(\d+))?$/s)
    ?.filter((found, i) => i < 2 || found !== undefined) ?? ["", name];
  return { group, part };
}

/** Of averages, which are measured once at the end: no curve. */
const isCurve = (name: string) => name !== "tokens" && !/^(ema|swa)\//.test(name);

/** All charts of one run, or of several that share them. */
export function metricCharts(runs: readonly RunData[], by: XAxis): Markup[] {
  const found = new Map<string, Map<RunData, { part: string; series: Series }[]>>();
  for (const group of Object.keys(groups)) found.set(group, new Map());
  for (const run of runs) {
    for (const [name, series] of run.metrics.series) {
      if (!isCurve(name)) continue;
      const { group, part } = placeOf(name);
      const ofGroup = found.get(group) ?? new Map();
      found.set(group, ofGroup);
      ofGroup.set(run, [...ofGroup.get(run) ?? [], { part, series }]);
    }
  }
  const isSingle = runs.length === 1;
  return [...found].filter(([, ofRuns]) => ofRuns.size > 0).map(([group, ofRuns]) => {
    const told = groups[group] ?? unknownGroup(group), { title, y, log } = told;
    const lines = runs.flatMap((run, i) => {
      const all = ofRuns.get(run) ?? [], whose = isSingle ? "" : run.name;
      const isAlone = all.length === 1, ofRun = colourOf(i, runs.length);
      if (told.isNoisy && isAlone) {
        return noisyLines(told, all[0].series, run.metrics, { by, whose, colour: ofRun });
      }
      return all.map(({ part, series }): Line => ({
        name: nameOf(told, { whose, part, isAlone }),
        ...placed(series, run.metrics, by),
        ...(!isSingle && isAlone && { colour: ofRun }),
        ...(isSingle && part === "" && all.length > 8 && { colour: "text" }),
      }));
    });
    if (group === "loss" && isSingle) lines.push(...validationLine(runs[0], by));
    const noisy = told.isNoisy ? [...ofRuns.values()].map(([{ series }]) => series) : [];
    return lineChart({
      title,
      x: axes[by],
      y,
      lines,
      marks: isSingle ? resumedAt(runs[0], by) : [],
      note: [told.note, smoothingNote(noisy)].filter((note) => note).join(" ") || undefined,
      ...(log && { log }),
    });
  });
}

/** What a line is called: by its run where there are several, by its part where there are. */
function nameOf(
  { title, part: kind, whole = "mean" }: Group,
  { whose, part, isAlone }: { whose: string; part: string; isAlone: boolean },
): string {
  const numbered = kind === undefined ? part : `${kind} ${part}`;
  const what = part !== "" ? numbered : isAlone ? "" : whole;
  if (whose === "") return what || title.toLowerCase();
  return what === "" ? whose : `${whose}: ${what}`;
}

function colourOf(i: number, count: number): Colour {
  return count <= 8 ? i : { part: i / (count - 1) };
}

/** A name of a part that nothing here knows of. */
function unknownGroup(name: string): Group {
  const words = name.replaceAll(/[._]/g, " ");
  return {
    title: words.charAt(0).toUpperCase() + words.slice(1),
    y: { label: words, unit: /entropy/.test(name) ? "nats" : none },
  };
}

/** The span of smoothing: a fiftieth of what was logged. Less than two steps are not worth a mean. */
function spanOf({ values }: Series): number {
  const span = Math.min(500, Math.round(values.length / 50));
  return span < 2 ? 0 : span;
}

/** What charts show as smoothed; of few values they themselves. */
export function smoothed(series: Series): ArrayLike<number> {
  const span = spanOf(series);
  return span === 0 ? series.values : smooth(series.values, span);
}

function smoothingNote(noisy: readonly Series[]): string {
  const spans = noisy.map(spanOf), [least, most] = [Math.min(...spans), Math.max(...spans)];
  if (spans.length === 0 || most === 0) return "";
  const span = least === most ? `${least}` : least === 0 ? `up to ${most}` : `${least} to ${most}`;
  return `Smoothed by an exponential mean over ${span} logged steps.`;
}

interface NoisyLines {
  readonly by: XAxis;
  readonly whose: string;
  readonly colour: Colour;
}

/** Of one of several runs the smoothed line alone, as they would hide each other. */
function noisyLines(
  { title }: Group,
  series: Series,
  metrics: Metrics,
  { by, whose, colour }: NoisyLines,
): Line[] {
  const raw = placed(series, metrics, by), mean = { x: raw.x, y: smoothed(series), colour };
  if (whose !== "") return [{ name: whose, ...mean }];
  if (spanOf(series) === 0) return [{ name: title.toLowerCase(), ...raw, colour }];
  return [
    { name: "each logged step", ...raw, colour, style: "faint" },
    { name: "smoothed", ...mean },
  ];
}

function validationLine({ metrics }: RunData, by: XAxis): Line[] {
  const held = metrics.series.get("validation_loss");
  if (!held) return [];
  return [{ name: "validation", ...placed(held, metrics, by), colour: 1, style: "dashed" }];
}

/** A series over steps, or over the tokens that were trained on by then. */
function placed({ steps, values }: Series, metrics: Metrics, by: XAxis) {
  return { x: by === "step" ? steps : tokensAt(metrics, steps), y: values };
}

/** Between logged steps tokens rise evenly. */
function tokensAt({ series }: Metrics, steps: readonly number[]): number[] {
  const tokens = series.get("tokens");
  if (!tokens) return steps.map(() => NaN);
  const xs = [0, ...tokens.steps], ys = [0, ...tokens.values];
  let i = 0;
  return steps.map((step) => {
    while (i + 1 < xs.length && xs[i + 1] <= step) i++;
    if (xs[i] === step || i + 1 === xs.length) return ys[i];
    return ys[i] + (ys[i + 1] - ys[i]) * (step - xs[i]) / (xs[i + 1] - xs[i]);
  });
}

/** Where a run went on after it had ended. */
function resumedAt({ manifest: { sessions = [] }, metrics }: RunData, by: XAxis) {
  const steps = sessions.map(({ from_step = 0 }) => from_step).filter((step) => step > 0);
  const places = by === "step" ? steps : tokensAt(metrics, steps);
  return places.map((x, i) => ({ x, label: `went on from step ${shortNumber(steps[i])}` }));
}
