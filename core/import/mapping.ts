/** Which tensor of a published checkpoint gives each parameter of a model, or why none does. */

import { reshape } from "../../kernels/mod.ts";
import { mapTree, sizeOf, type Tensor } from "../graph/mod.ts";
import { UserError } from "../io/errors.ts";
import type { TensorInfo } from "../io/safetensors.ts";
import { plural } from "../io/words.ts";
import {
  blocksOf,
  type Model,
  type ModelTree,
  type NamedParam,
  namedParams,
} from "../model/mod.ts";
import type { ParamDescription, TensorTree } from "../nn/mod.ts";
import { rearrangedTensor, shapeAfter, type Step } from "./steps.ts";
import {
  fillPattern,
  ignoredBecause,
  type ImportTable,
  knowsName,
  matchPattern,
  type Place,
} from "./table.ts";

/** One parameter and where it comes from. */
export interface Origin {
  readonly param: NamedParam;
  /** The name there. */
  readonly theirs: string;
  readonly steps: readonly Step[];
}

export interface Dropped {
  readonly name: string;
  readonly why: string;
}

export interface Mapping {
  readonly table: ImportTable;
  readonly origins: readonly Origin[];
  readonly dropped: readonly Dropped[];
  /** Names of which the second must hold the same numbers as the first, whose place it does not need. */
  readonly twin: readonly [name: string, same: string] | undefined;
}

/** Names and shapes of a checkpoint. */
export type Infos = ReadonlyMap<string, TensorInfo>;

const floats = ["F32", "F16", "BF16", "F64"];

/** What every parameter of a model is called there; throws, naming all of them, where a table does not know some. */
export function originsOf(table: ImportTable, model: Model): Origin[] {
  const placeOf = placesOf(model), named = new Map<object, number>(), unknown: string[] = [];
  const origins = namedParams(model.params).flatMap((param): Origin[] => {
    for (const rule of table.rules) {
      const found = matchPattern(rule.ours, param.path);
      if (!found) continue;
      const place = placeOf(found, named.get(rule) ?? 0);
      if (rule.when?.(place) === false) continue;
      named.set(rule, place.n + 1);
      const steps = rule.steps?.(place) ?? [];
      return [{ param, theirs: fillPattern(rule.theirs, place), steps }];
    }
    unknown.push(param.path);
    return [];
  });
  if (unknown.length === 0) return origins;
  throw new UserError(
    `${table.name} checkpoints have nothing for ${listed(unknown)}`,
    { where: "model", hint: "the config has parts that those models do not have" },
  );
}

function placesOf({ config, dims }: Model) {
  const blocks = blocksOf(config).blocks.flatMap((block) =>
    Array<typeof block>(block.repeat).fill(block)
  );
  return ({ i = 0, j = 0 }: Readonly<Record<string, number>>, n: number): Place => ({
    i,
    j,
    n,
    layers: blocks.length,
    hidden_size: dims.hidden_size,
    mixer: blocks[i]?.mixer,
    mlp: blocks[i]?.mlp,
  });
}

/**
 * Holds a checkpoint's tensors against a model: every parameter must be there in its size, and nothing else. All that is
 * missing, too many or misshapen is said at once.
 */
export function mapCheckpoint(
  table: ImportTable,
  model: Model,
  infos: Infos,
  where: string,
): Mapping {
  const { tied: [embedding, head] } = table, faults: string[] = [];
  const twin = twinOf(table, model, infos);
  // a file in which the two share their numbers may have them under either name
  const isHeadAlone = !twin && !infos.has(embedding) && infos.has(head) && isTied(model);
  const origins = originsOf(table, model).map((origin) =>
    isHeadAlone && origin.theirs === embedding ? { ...origin, theirs: head } : origin
  );
  const taken = new Map<string, number>();
  for (const origin of origins) {
    const info = infos.get(origin.theirs), { shape } = origin.param;
    taken.set(origin.theirs, (taken.get(origin.theirs) ?? 0) + sizeOf(shape));
    if (info) faults.push(...misfit(origin, info));
    else faults.push(missing(origin, table, infos));
  }
  const dropped: Dropped[] = twin ? [{ name: twin[1], why: `the same as ${twin[0]}` }] : [];
  for (const [name, info] of infos) {
    const used = taken.get(name), why = ignoredBecause(table, name), all = sizeOf(info.shape);
    if (used !== undefined && faults.length === 0 && used !== all) {
      faults.push(`${name} ${shapeText(info)} has ${all} numbers, the config takes ${used}`);
    }
    if (used !== undefined || name === twin?.[1]) continue;
    if (why === undefined) faults.push(`${name} ${shapeText(info)} is nowhere in the config`);
    else dropped.push({ name, why });
  }
  if (faults.length > 0) throw misfits([...new Set(faults)], where);
  return { table, origins, dropped, twin };
}

const shown = 12;

function misfits(faults: readonly string[], where: string): UserError {
  const lines = faults.slice(0, shown).map((fault) => `\n  ${fault}`);
  const more = faults.length > shown ? `\n  and ${faults.length - shown} more` : "";
  return new UserError(`tensors and config do not fit each other:${lines.join("")}${more}`, {
    where,
    hint: "take the config that the model was made with, or change its sizes: --set model.…",
  });
}

function misfit({ param, theirs, steps }: Origin, info: TensorInfo): string[] {
  if (!floats.includes(info.dtype)) {
    return [`${theirs} is ${info.dtype}; weights are ${floats.join(", ")}`];
  }
  const found = shapeAfter(steps, info.shape), { path, shape } = param;
  if (found && plain(found) === plain(shape)) return [];
  const gives = steps.length > 0 && found ? `, which gives [${found}]` : "";
  return [`${theirs} is ${shapeText(info)}${gives}; ${path} needs [${shape}]`];
}

/** Axes of length 1 hold nothing. */
const plain = (shape: readonly number[]) => shape.filter((size) => size !== 1).join();

function missing({ param, theirs }: Origin, { tied }: ImportTable, infos: Infos): string {
  const isShared = theirs === tied[1] && infos.has(tied[0]);
  const help = isShared
    ? `; if ${tied[0]} is the output matrix, too, say so: head.tie_word_embeddings=true`
    : "";
  return `${theirs} is missing (${param.path} [${param.shape}])${help}`;
}

const shapeText = ({ shape }: TensorInfo) => `[${shape}]`;

function isTied({ params }: Model): boolean {
  return namedParams(params.head).length === 0;
}

function twinOf({ tied: [embedding, head] }: ImportTable, model: Model, infos: Infos) {
  const both = infos.has(embedding) && infos.has(head);
  return both && isTied(model) ? [embedding, head] as const : undefined;
}

function listed(names: readonly string[]): string {
  const more = names.length > 4 ? ` and ${plural(names.length - 4, "other")}` : "";
  return names.slice(0, 4).join(", ") + more;
}

/** The one table that knows every name. */
export function recognize(
  tables: Readonly<Record<string, ImportTable>>,
  infos: Infos,
  where: string,
): ImportTable {
  const names = [...infos.keys()];
  const unknown = Object.values(tables).map((table) => ({
    table,
    names: names.filter((name) => !knowsName(table, name)),
  })).sort((a, b) => a.names.length - b.names.length);
  const [best] = unknown;
  if (best.names.length === 0) return best.table;
  const isNear = best.names.length < names.length;
  throw new UserError(
    isNear
      ? `not all tensors are known: of ${best.table.name}'s, the nearest, not ${listed(best.names)}`
      : `no tensor has a name that is known: ${listed(names)}`,
    { where, hint: `--format says what it is: ${Object.keys(tables).join(", ")}` },
  );
}

/** A model's parameters from tensors of theirs, as graph: gradients find their way back to them. */
export function paramsFrom(
  table: ImportTable,
  model: Model,
  theirs: (name: string) => Tensor,
): ModelTree<TensorTree> {
  return partFrom(table, model, "", theirs) as unknown as ModelTree<TensorTree>;
}

/** Those of one part alone, by its path: `layers.0.mlp`. */
export function partFrom(
  table: ImportTable,
  model: Model,
  at: string,
  theirs: (name: string) => Tensor,
): TensorTree {
  const origins = new Map(originsOf(table, model).map((origin) => [origin.param.path, origin]));
  const keys = at === "" ? [] : at.split(".");
  const part = keys.reduce<unknown>((tree, key) => Reflect.get(tree as object, key), model.params);
  return mapTree(part, ({ shape }: ParamDescription, path) => {
    const { theirs: name, steps } = origins.get(path)!, x = rearrangedTensor(theirs(name), steps);
    return x.shape.join() === shape.join() ? x : reshape(x, shape);
  }, at) as TensorTree;
}
