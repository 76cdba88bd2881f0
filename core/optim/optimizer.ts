/** The optimizer of a run: one for all parameters, or groups of them with one each. */

import { z } from "zod";
import { mul, slice } from "../../kernels/mod.ts";
import { ShapeError, type Spec, type Tensor } from "../graph/mod.ts";
import { type Role, roles } from "../nn/mod.ts";
import { adamWOptimizer } from "./adamw.ts";
import { adEMAMixOptimizer } from "./ademamix.ts";
import { decayTable } from "./decay.ts";
import { freezeConfig, frozenBy, isForGood, thawOf, thawWords } from "./freeze.ts";
import { muonOptimizer } from "./muon.ts";
import { pathPattern, takesPath } from "./paths.ts";
import type { OptimizerParam, OptimizerRecord, PlacedSchedule, Words } from "./record.ts";
import { curveOf, nonnegativeSchedule, type Schedule } from "./schedule.ts";
import type { Clock } from "./span.ts";

const optimizers = {
  adamw: adamWOptimizer,
  ademamix: adEMAMixOptimizer,
  muon: muonOptimizer,
};

/** Gradients longer than this, all together, are shortened to it; 0 is no limit. */
const max_norm = nonnegativeSchedule.default(1);

/** Parameters that rest at first, or always, whatever their optimizer. */
const shared = { max_norm, freeze: freezeConfig };

const members = {
  /** Takes parameters of these roles; left out: of all. */
  roles: z.array(z.enum(roles)).min(1).optional(),
  /** Takes parameters whose path one of these fits, `*` standing for any text; left out: all. */
  params: z.array(pathPattern).min(1).optional(),
};

const forAll = z.discriminatedUnion("kind", [
  adamWOptimizer.config.extend(shared),
  adEMAMixOptimizer.config.extend(shared),
  muonOptimizer.config.extend(shared),
]);
const group = z.discriminatedUnion("kind", [
  adamWOptimizer.config.extend(members),
  adEMAMixOptimizer.config.extend(members),
  muonOptimizer.config.extend(members),
]);
const grouped = z.strictObject({
  ...shared,
  /** A parameter belongs to the first group that takes it. */
  groups: z.array(group).min(1),
});

export const optimizerConfig = z.union([forAll, grouped]);
export type OptimizerConfig = z.output<typeof optimizerConfig>;
type GroupConfig = z.output<typeof group>;

function groupsOf(config: OptimizerConfig): GroupConfig[] {
  return "groups" in config ? config.groups : [config];
}

function recordOf({ kind }: GroupConfig): OptimizerRecord {
  return optimizers[kind] as unknown as OptimizerRecord;
}

/** The config with every role's weight decay written out: what a resolved config says. */
export function completeOptimizer(config: OptimizerConfig): OptimizerConfig {
  const complete = <G extends GroupConfig>(group: G): G =>
    group.kind === "muon" ? group : { ...group, weight_decay: decayTable(group.weight_decay) };
  return "groups" in config
    ? { ...config, groups: config.groups.map(complete) }
    : complete(config as GroupConfig) as OptimizerConfig;
}

/** The optimizer's schedules, by their place in its config. */
export function optimizerSchedules(config: OptimizerConfig): PlacedSchedule[] {
  const all = groupsOf(config).flatMap((group, i) =>
    recordOf(group).schedules(group as never).map(({ path, schedule }) => ({
      path: "groups" in config ? ["groups", i, ...path] : path,
      schedule,
    }))
  );
  return [...all, { path: ["max_norm"], schedule: config.max_norm }];
}

/** The learning rates of its groups, by their place in its config. */
export function learningRates(config: OptimizerConfig): PlacedSchedule[] {
  return optimizerSchedules(config).filter(({ path }) => path.at(-1) === "learning_rate");
}

/** The scalars of one update. */
export interface OptimizerScalars {
  /** The first group's. */
  readonly learningRate: number;
  readonly maxNorm: number;
  /** The words of all groups, one after another, and of each entry of `freeze`. */
  readonly hyper: Words;
}

/** The scalars of update `step`, counted from 0. */
export function scalarsOf(
  config: OptimizerConfig,
  clock: Clock,
): (step: number) => OptimizerScalars {
  const norm = curveOf(config.max_norm, clock);
  const words = groupsOf(config).map((group) => recordOf(group).wordsAt(group as never, clock));
  const thaw = thawWords(config.freeze, clock);
  return (step) => {
    const hyper = Float64Array.from([...words.flatMap((at) => [...at(step)]), ...thaw(step)]);
    return { learningRate: hyper[0], maxNorm: norm(step), hyper };
  };
}

/** By a parameter's path. */
export type ByPath<T> = Readonly<Record<string, T>>;

/** A group's parameters of one role, for people; or those that are never trained. */
export interface GroupSummary {
  readonly kind: GroupConfig["kind"] | "frozen";
  readonly role: Role;
  readonly params: readonly OptimizerParam[];
  readonly weightDecay: Schedule;
}

export interface Optimizer {
  /** All parameters but those that always rest. */
  readonly params: readonly OptimizerParam[];
  /** What is kept of the parameters, by name and then path: a part of the state. */
  readonly buffers: Readonly<Record<string, ByPath<Spec>>>;
  readonly hyper: Spec;
  /** The gradients of `params`, 0 for those that rest for now: they are no part of the norm that is clipped. */
  trained(grads: ByPath<Tensor>, hyper: Tensor): ByPath<Tensor>;
  /** All parameters and buffers after an update. `grads` of `params` at least; `gate` as from `globalNorm`. */
  update(given: {
    readonly params: ByPath<Tensor>;
    readonly grads: ByPath<Tensor>;
    readonly buffers: Readonly<Record<string, ByPath<Tensor>>>;
    readonly hyper: Tensor;
    readonly gate: Tensor;
  }): { params: ByPath<Tensor>; buffers: Readonly<Record<string, ByPath<Tensor>>> };
  readonly summary: readonly GroupSummary[];
}

/** Binds a config to the parameters. A parameter that no group takes is an error, as is a group that takes none. */
export function bindOptimizer(
  config: OptimizerConfig,
  params: readonly OptimizerParam[],
): Optimizer {
  const groups = groupsOf(config).map((group) => ({ group, record: recordOf(group) }));
  const groupOf = params.map((param) => {
    const found = groups.findIndex(({ group }) => takes(group, param));
    if (found < 0) throw new ShapeError(`optimizer: no group takes ${param.path} (${param.role})`);
    const refusal = groups[found].record.refuses?.(param);
    if (refusal) throw new ShapeError(`optimizer: ${refusal}, not ${param.path} [${param.shape}]`);
    return found;
  });
  groups.forEach(({ group: { kind } }, i) => {
    if (!groupOf.includes(i)) {
      throw new ShapeError(`optimizer: group ${i} (${kind}) is left nothing`);
    }
  });
  const { freeze } = config,
    entriesOf = new Map(
      params.map((param) => [param.path, frozenBy(freeze, param)]),
    );
  const isFrozen = ({ path }: OptimizerParam) =>
    entriesOf.get(path)!.some((entry) => isForGood(freeze[entry]));
  const trainable = params.filter((param) => !isFrozen(param));
  if (trainable.length === 0) throw new ShapeError("optimizer: freeze leaves nothing to train");
  const buffers: Record<string, Record<string, Spec>> = {};
  params.forEach((param, i) => {
    if (isFrozen(param)) return;
    for (const name of groups[groupOf[i]].record.buffers) {
      (buffers[name] ??= {})[param.path] = { shape: param.shape, dtype: "f32" };
    }
  });
  freeze.forEach(({ params }, i) => {
    if ([...entriesOf.values()].some((entries) => entries.includes(i))) return;
    const said = params === undefined ? "" : ` (${params.join(", ")})`;
    throw new ShapeError(`optimizer: freeze.${i}${said} fits no parameter`);
  });
  const sizes = groups.map(({ record }) => record.words);
  const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, n) => sum + n, 0));
  const words = sizes.reduce((sum, n) => sum + n, 0);
  /** What a parameter's gradient and gate are multiplied by; undefined where it never rests. */
  const thawsIn = (hyper: Tensor) => {
    if (freeze.length === 0) return () => undefined;
    const known = new Map<string, Tensor | undefined>();
    const own = slice(hyper, 0, words, freeze.length);
    return (path: string) => {
      const entries = entriesOf.get(path)!, key = entries.join();
      if (!known.has(key)) known.set(key, thawOf(entries, own));
      return known.get(key);
    };
  };
  return {
    params: trainable,
    buffers,
    hyper: { shape: [words + freeze.length], dtype: "f32" },
    trained(grads, hyper) {
      const thaws = thawsIn(hyper);
      return Object.fromEntries(
        trainable.map(({ path }) => {
          const thaw = thaws(path);
          return [path, thaw ? mul(grads[path], thaw) : grads[path]];
        }),
      );
    },
    update(given) {
      const hyper = groups.map((_, i) =>
        sizes[i] === words + freeze.length
          ? given.hyper
          : slice(given.hyper, 0, starts[i], sizes[i])
      );
      const thaws = thawsIn(given.hyper);
      const next: Record<string, Tensor> = {}, kept: Record<string, Record<string, Tensor>> = {};
      params.forEach((param, i) => {
        const { path } = param, { group, record } = groups[groupOf[i]], thaw = thaws(path);
        if (isFrozen(param)) {
          next[path] = given.params[path];
          return;
        }
        const updated = record.update(group as never, param, {
          param: given.params[path],
          grad: given.grads[path],
          buffers: Object.fromEntries(
            record.buffers.map((name) => [name, given.buffers[name][path]]),
          ),
          hyper: hyper[groupOf[i]],
          gate: thaw ? mul(given.gate, thaw) : given.gate,
        });
        next[path] = updated.param;
        for (const name of record.buffers) (kept[name] ??= {})[path] = updated.buffers[name];
      });
      return { params: next, buffers: kept };
    },
    summary: [
      ...groups.flatMap(({ group, record }, i) =>
        roles.map((role) => ({
          kind: group.kind,
          role,
          params: params.filter((param, n) =>
            groupOf[n] === i && param.role === role && !isFrozen(param)
          ),
          weightDecay: record.decayOf(group as never, role),
        }))
      ),
      ...roles.map((role) => ({
        kind: "frozen" as const,
        role,
        params: params.filter((param) => param.role === role && isFrozen(param)),
        weightDecay: 0,
      })),
    ].filter(({ params }) => params.length > 0),
  };
}

function takes({ roles, params }: GroupConfig, { path, role }: OptimizerParam): boolean {
  return (roles?.includes(role) ?? true) && (params === undefined || takesPath(params, path));
}
