/**
 * What a model does inside while it reads texts: what its routers choose, how far its gates are open, how fast its states
 * forget. Which values there are the parts say themselves (`reveal`).
 */

import type { Device } from "../device/types.ts";
import {
  type About,
  mapTree,
  revealing,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../graph/mod.ts";
import { buildModel, type ModelTree, namedParams, runSpecs, runValues } from "../model/mod.ts";
import type { TensorTree } from "../nn/mod.ts";
import type { OpenedModel } from "../open/mod.ts";
import { type Plan, planGraph } from "../plan/mod.ts";
import { fillState } from "../train/trainer.ts";

/** A text, and whose it is: texts of one category are taken together. */
export interface PlacedText {
  readonly category: string;
  readonly text: string;
}

/** One value of a part, on all texts. */
export interface Finding extends Omit<About, "labels"> {
  /** The part: `layers.3.mlp.router`; `layers.3.mlp.router, pass 2` of one that is passed again. */
  readonly path: string;
  readonly name: string;
  /** Places of the last axis; numbers where the part has no names for them. */
  readonly labels: readonly string[];
  /** The mean over the categories. */
  readonly all: Measured;
  readonly byCategory: Readonly<Record<string, Measured>>;
}

/** Means over tokens of each text, then over texts, so that long ones do not outweigh the others. */
export interface Measured {
  /** Of each place of the last axis; of units also over those. */
  readonly mean: readonly number[];
  readonly least: number;
  readonly most: number;
  readonly std: number;
  /** Of shares, in nats: the mean of each token's or unit's, its spread over them, and that of the mean. */
  readonly entropy?: { readonly mean: number; readonly std: number; readonly ofMean: number };
  /** Of units [units, places]. */
  readonly units?: Float64Array;
}

export interface Insides {
  readonly findings: readonly Finding[];
  readonly categories: readonly {
    readonly name: string;
    readonly texts: number;
    readonly tokens: number;
  }[];
}

export interface Reading {
  /** Of a row: a longer text is read in parts. */
  readonly maxTokens: number;
  /** Rows of each category, first parts of texts before later ones. */
  readonly limit: number;
}

/** Each row is read alone: nothing stands beside it, as in the sources. */
export async function lookInside(
  opened: OpenedModel,
  device: Device,
  texts: readonly PlacedText[],
  reading: Reading,
  onText: (part: number) => void = () => {},
): Promise<Insides> {
  const model = buildModel({ ...opened.model.config, remat: false });
  const rows = rowsOf(opened, texts, reading);
  using stack = new DisposableStack();
  const readers = new Map<number, Reader>();
  const sheets = new Map<string, Sheet>();
  const counts = new Map<string, { texts: number; tokens: number }>();
  const first = planOf(model, rows[0].ids.length, device);
  const state = stack.use(device.createState(first.plan.state));
  const params = namedParams(model.params).map(({ path, shape }) => ({ name: path, shape }));
  fillState(state, opened.file, "params.", params);
  for (const [done, { category, ids }] of rows.entries()) {
    let reader = readers.get(ids.length);
    if (!reader) {
      reader = planOf(model, ids.length, device);
      readers.set(ids.length, reader);
    }
    using executable = await device.compile(reader.plan, state, { ring: 1 });
    executable.run({
      ids: Int32Array.from(ids),
      positions: Int32Array.from(ids.keys()),
      ...runValues(model, opened.point, "measuring", { rows: 1 }),
    });
    const [outputs] = await executable.outputs();
    reader.told.forEach((told, i) => {
      const key = `${told.path} ${told.name} ${told.kind}`;
      const sheet = sheets.get(key) ?? { told, texts: [] };
      sheets.set(key, sheet);
      sheet.texts.push({ category, measured: measure(told, outputs[`value_${i}`]) });
    });
    const { texts = 0, tokens = 0 } = counts.get(category) ?? {};
    counts.set(category, { texts: texts + 1, tokens: tokens + ids.length });
    onText((done + 1) / rows.length);
  }
  return {
    findings: [...sheets.values()].map(findingOf),
    categories: [...counts].map(([name, count]) => ({ name, ...count })),
  };
}

interface TextRow {
  readonly category: string;
  readonly ids: readonly number[];
}

function rowsOf(
  { tokenizer, beginning, model }: OpenedModel,
  texts: readonly PlacedText[],
  { maxTokens, limit }: Reading,
): TextRow[] {
  const length = Math.min(maxTokens, model.dims.max_position_embeddings);
  const parts = texts.flatMap(({ category, text }) => {
    const start = beginning === undefined ? [] : [beginning];
    const ids = [...start, ...tokenizer.encode(text)];
    return Array.from(
      { length: Math.ceil(ids.length / length) },
      (_, part) => ({ category, part, ids: ids.slice(part * length, (part + 1) * length) }),
    );
  });
  const taken = new Map<string, number>();
  return parts.sort((a, b) => a.part - b.part).filter(({ category }) => {
    const count = (taken.get(category) ?? 0) + 1;
    taken.set(category, count);
    return count <= limit;
  });
}

interface Told extends About {
  readonly path: string;
  readonly name: string;
  readonly labels: readonly string[];
}

interface Reader {
  readonly plan: Plan;
  readonly told: readonly Told[];
}

type Model = OpenedModel["model"];

/** A row of so many tokens, whose outputs are what the parts tell. */
function planOf(model: Model, length: number, device: Device): Reader {
  let told: Told[] = [];
  const graph = trace((state, batch) => {
    const { params } = state as unknown as { params: ModelTree<TensorTree> };
    const { revealed } = revealing(() => model.apply(params, batch as never));
    const times = new Map<string, number>();
    const values: Tensor[] = [];
    told = revealed.flatMap(({ value, labels, ...about }) => {
      const key = `${about.path} ${about.name} ${about.kind}`, before = times.get(key) ?? 0;
      times.set(key, before + 1);
      if (before > 0 && about.over === "part") return []; // the same weights again
      values.push(value);
      return [{
        ...about,
        path: before === 0 ? about.path : `${about.path}, pass ${before + 1}`,
        labels: labels ?? Array.from({ length: value.shape.at(-1)! }, (_, i) => String(i)),
      }];
    });
    return { outputs: Object.fromEntries(values.map((value, i) => [`value_${i}`, value])) };
  }, {
    state: {
      params: mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype })),
    } as unknown as Record<string, Spec>,
    batch: {
      ids: spec([1, length], "i32"),
      positions: spec([1, length], "i32"),
      ...runSpecs(model, 1, "measuring"),
    },
  });
  return { plan: planGraph(graph, device.target), told };
}

interface Sheet {
  readonly told: Told;
  readonly texts: { readonly category: string; readonly measured: Measured }[];
}

/** One text's values, [lines, places]. */
function measure({ kind, over, labels }: Told, values: ArrayLike<number>): Measured {
  const places = labels.length, lines = values.length / places;
  const mean = Array<number>(places).fill(0);
  let least = Infinity, most = -Infinity, sum = 0, squares = 0, entropies = 0, entropySquares = 0;
  for (let line = 0; line < lines; line++) {
    let entropy = 0;
    for (let place = 0; place < places; place++) {
      const value = values[line * places + place];
      mean[place] += value / lines;
      least = Math.min(least, value);
      most = Math.max(most, value);
      sum += value;
      squares += value * value;
      entropy -= value * Math.log(value + 1e-10);
    }
    entropies += entropy;
    entropySquares += entropy * entropy;
  }
  const spread = (sum: number, squares: number, count: number) =>
    Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2));
  return {
    mean,
    least,
    most,
    std: spread(sum, squares, values.length),
    ...(kind === "shares" && {
      entropy: {
        mean: entropies / lines,
        std: spread(entropies, entropySquares, lines),
        ofMean: entropyOf(mean),
      },
    }),
    ...(over === "units" && { units: Float64Array.from(values) }),
  };
}

function entropyOf(shares: readonly number[]): number {
  return -shares.reduce((sum, share) => sum + share * Math.log(share + 1e-10), 0);
}

function findingOf({ told, texts }: Sheet): Finding {
  const names = [...new Set(texts.map(({ category }) => category))];
  const byCategory = Object.fromEntries(
    names.map((name) => [
      name,
      together(texts.filter(({ category }) => category === name).map(({ measured }) => measured)),
    ]),
  );
  return { ...told, byCategory, all: together(Object.values(byCategory)) };
}

/** Means of means; the ends are those of all. */
function together(all: readonly Measured[]): Measured {
  const mean = (of: (one: Measured) => number) =>
    all.reduce((sum, one) => sum + of(one), 0) / all.length;
  const shares = all[0].mean.map((_, i) => mean((one) => one.mean[i]));
  const { entropy, units } = all[0];
  return {
    mean: shares,
    least: Math.min(...all.map(({ least }) => least)),
    most: Math.max(...all.map(({ most }) => most)),
    std: mean(({ std }) => std),
    ...(entropy && {
      entropy: {
        mean: mean(({ entropy }) => entropy!.mean),
        std: mean(({ entropy }) => entropy!.std),
        ofMean: entropyOf(shares),
      },
    }),
    ...(units && {
      units: units.map((_, i) => mean(({ units }) => units![i])),
    }),
  };
}

/** The place of the largest share of each unit; the first where several are. */
export function dominant({ labels, all: { units } }: Pick<Finding, "labels" | "all">): Uint8Array {
  const places = labels.length;
  return Uint8Array.from({ length: (units?.length ?? 0) / places }, (_, unit) => {
    const row = units!.subarray(unit * places, (unit + 1) * places);
    return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
  });
}

/** After so many tokens half of a state is left, where each leaves the part `decay`. */
export function halfLife(decay: number): number {
  return decay >= 1 ? Infinity : Math.log(0.5) / Math.log(decay);
}
