/** What a model is made of, from its config alone: parts, parameters by part and role, work for a token. */

import { sizeOf } from "../graph/mod.ts";
import {
  countAll,
  countByPart,
  countByRole,
  type Model,
  namedParams,
  type PartCount,
  type RoleCount,
} from "../model/mod.ts";
import { type BlocksConfig, blocksOf } from "../model/config.ts";
import type { Role } from "../nn/mod.ts";
import { bindOptimizer, type OptimizerConfig, type Schedule } from "../optim/mod.ts";
import { planGraph, type Target } from "../plan/mod.ts";
import { traceLosses } from "../train/programs.ts";

/** What trains the parameters of a role. */
export interface Trained {
  /** Its optimizer, or `frozen`. */
  readonly kind: string;
  readonly role: Role;
  readonly tensors: number;
  readonly total: number;
  readonly weightDecay: Schedule;
  /** Names with `*` for the numbers of layers. */
  readonly params: readonly string[];
}

export interface ModelFacts {
  readonly params: number;
  readonly byPart: readonly PartCount[];
  readonly byRole: readonly RoleCount[];
  /** Undefined where nobody says how it is trained. */
  readonly trained: readonly Trained[] | undefined;
  /** Lines of parts, those of layers alike taken together. */
  readonly parts: readonly PartLine[];
  readonly flopsPerToken: number;
}

/** A part: where it stands, its kind, and what its config says besides. */
export interface PartLine {
  readonly at: string;
  readonly kind: string;
  readonly settings: string;
}

export function modelFacts(
  model: Model,
  optimizer: OptimizerConfig | undefined,
  target: Target,
): ModelFacts {
  const params = namedParams(model.params);
  return {
    params: countAll(params),
    byPart: countByPart(params),
    byRole: countByRole(params),
    trained: optimizer &&
      bindOptimizer(optimizer, params).summary.map(({ kind, role, params, weightDecay }) => ({
        kind,
        role,
        tensors: params.length,
        total: params.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
        weightDecay,
        params: [...new Set(params.map(({ path }) => path.replaceAll(/\.\d+(?=\.|$)/g, ".*")))],
      })),
    parts: partsOf(blocksOf(model.config)),
    flopsPerToken: flopsOf(model, target),
  };
}

/** Of reading a row of the model's length and its loss: what a token of it takes. */
function flopsOf(model: Model, target: Target): number {
  const length = Math.min(model.dims.max_position_embeddings, 1024);
  const shape = { rows: 1, length, segments: false };
  return planGraph(traceLosses(model, shape), target).totals.flops / length;
}

function partsOf({ input, blocks, order, skips, norm, head }: BlocksConfig): PartLine[] {
  let layer = 0;
  const layers = blocks.flatMap(({ repeat, mixer, mlp, residual }) => {
    const last = layer + repeat - 1,
      at = repeat === 1 ? `layers.${layer}` : `layers.${layer}–${last}`;
    layer += repeat;
    return [line(`${at}.mixer`, mixer), line(`${at}.mlp`, mlp), line(`${at}.residual`, residual)];
  });
  const passes = order?.map((pass) =>
    typeof pass === "number" ? `${pass}` : `${pass.layer}${pass.modulated ? "*" : ""}`
  );
  return [
    line("input", input),
    ...alike(layers),
    ...passes ? [{ at: "order", kind: passes.join(" "), settings: "" }] : [],
    ...skips.length > 0
      ? [{
        at: "skips",
        kind: skips.map(({ from, to }) => `${from}→${to}`).join(" "),
        settings: "",
      }]
      : [],
    line("norm", norm),
    line("head", head),
  ];
}

function line(at: string, { kind, ...settings }: { readonly kind: string }): PartLine {
  return { at, kind, settings: settingsText(settings) };
}

/** `a 1, b { kind c, d 2 }`; what is off is left out. */
function settingsText(settings: object): string {
  return Object.entries(settings).flatMap(([name, value]) => {
    if (value === undefined || value === false || value === null) return [];
    if (value === true) return [name];
    return [`${name} ${valueText(value)}`];
  }).join(", ");
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join(", ")}]`;
  if (typeof value !== "object" || value === null) return String(value);
  return `{ ${settingsText(value)} }`;
}

/** Layers that follow each other and say the same are one line; `layers.0`, `layers.2`, … of every second another. */
function alike(lines: readonly PartLine[]): PartLine[] {
  const groups = new Map<string, { line: PartLine; layers: string[] }>();
  for (const one of lines) {
    const [, layers, part] = one.at.match(/^layers\.([\d–]+)\.(\w+)$/)!;
    const key = `${part} ${one.kind} ${one.settings}`, group = groups.get(key);
    if (group) group.layers.push(layers);
    else groups.set(key, { line: { ...one, at: part }, layers: [layers] });
  }
  return [...groups.values()].map(({ line, layers }) => ({
    ...line,
    at: `layers.${joinedRuns(layers)}.${line.at}`,
  }));
}

/** 0, 1, 2, 5 → 0–2,5 */
function joinedRuns(layers: readonly string[]): string {
  const runs: [number, number][] = [];
  for (const text of layers) {
    const [from, to = from] = text.split("–").map(Number), last = runs.at(-1);
    if (last && last[1] + 1 === from) last[1] = to;
    else runs.push([from, to]);
  }
  return runs.map(([from, to]) => from === to ? `${from}` : `${from}–${to}`).join(",");
}
