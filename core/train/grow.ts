/**
 * A trained run with one more branch in its polymorphic mlps, as a new run that goes on where the old one stood: step,
 * data, schedules and moments stay; only what is new begins.
 */

import { join } from "node:path";
import { writeFolderAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import type { SafetensorsFile, TensorSource } from "../io/safetensors.ts";
import {
  blocksOf,
  branchesOf,
  buildModel,
  type CompleteModelConfig,
  countAll,
  grownMoments,
  grownValues,
  type ModelConfig,
  type NamedParam,
  namedParams,
  newRouterBias,
  withBranch,
} from "../model/mod.ts";
import { type BranchConfig, branchConfig } from "../nn/mod.ts";
import { averageKinds, bindOptimizer, valueAt } from "../optim/mod.ts";
import { tokenizerFileName } from "../text/load.ts";
import {
  type Checkpoint,
  type CheckpointTensors,
  openCheckpoint,
  saveCheckpoint,
} from "./checkpoint.ts";
import type { ResolvedConfig } from "./config.ts";
import { readPretrainConfig } from "./run_config.ts";
import { resumePoint, writeGrownRun } from "./run_folder.ts";
import { timelineOf } from "./timeline.ts";

export interface GrowJob {
  /** A run folder, or one of its checkpoints. */
  readonly from: string;
  /** The new run's folder. */
  readonly out: string;
  readonly branch: BranchConfig["kind"];
  /** Left out: as wide as the widest branch that is there. */
  readonly intermediate_size?: number | undefined;
  /** What the router's logit for the new branch is at first. Left out: see `newRouterBias`. */
  readonly routerBias?: number | undefined;
  /** So many updates train routers and new branches alone, and force branches with this probability. */
  readonly alone: { readonly steps: number; readonly forceProb: number };
  readonly session: { readonly version: string; readonly command: readonly string[] };
}

/** What was done. */
export interface Grown {
  readonly checkpoint: string;
  readonly step: number;
  readonly branch: BranchConfig;
  /** Layers that have one more. */
  readonly layers: number;
  /** The router's bias for the new branch in each of them. */
  readonly biases: readonly number[];
  readonly params: { readonly before: number; readonly after: number };
  /** Steps in all of the run that it comes from; undefined where time or tokens alone end it. */
  readonly steps: number | undefined;
}

/** Writes the new run; whatever is at `out` already is an error. */
export async function growRun(job: GrowJob): Promise<Grown> {
  const { run, checkpoint: path } = await resumePoint(job.from);
  const config = await readPretrainConfig(run) as ResolvedConfig;
  using checkpoint = await openCheckpoint(path);
  const { step } = checkpoint.state, branch = newBranch(config.model, job, run);
  const grown = grownConfig(config, branch, step, job.alone);
  const before = paramsOf(config.model), after = paramsOf(grown.model);
  const biases = newBiases(checkpoint.model, after, (path, old) => {
    const layer = Number(path.split(".")[1]);
    return job.routerBias ?? newRouterBias(old, tauOf(config, layer, step));
  });
  const tensors = grownTensors(checkpoint, grown, after, biases);
  const { format: _format, version: _version, files: _files, ...progress } = checkpoint.state;
  delete progress.validation_loss; // of the model without the branch
  await writeFolderAtomic(job.out, async (folder) => {
    await Deno.copyFile(join(run, tokenizerFileName), join(folder, tokenizerFileName));
    const session = { ...job.session, grown_from: path };
    await writeGrownRun(run, folder, { config: grown, session, step });
    await saveCheckpoint(folder, progress, tensors);
  });
  return {
    checkpoint: path,
    step,
    branch,
    layers: biases.size,
    biases: [...biases.values()],
    params: { before: countAll(before), after: countAll(after) },
    steps: config.steps,
  };
}

function newBranch(model: ModelConfig, { branch: kind, intermediate_size }: GrowJob, run: string) {
  const there = branchesOf(model).flat();
  if (there.length === 0) {
    throw new UserError("the model has no polymorphic mlp that could get a branch", {
      where: run,
      hint: "models with `mlp: { kind: polymorphic, … }` have",
    });
  }
  const widest = Math.max(...there.map((branch) => branch.intermediate_size));
  return branchConfig.parse({ kind, intermediate_size: intermediate_size ?? widest });
}

/** The blocks' mlps, one for each layer. */
function mlpsOf(model: ModelConfig) {
  return blocksOf(model).blocks.flatMap(({ mlp, repeat }) => Array<typeof mlp>(repeat).fill(mlp));
}

function grownConfig(
  config: ResolvedConfig,
  branch: BranchConfig,
  step: number,
  { steps, forceProb }: GrowJob["alone"],
): ResolvedConfig {
  const model = withBranch(config.model, branch);
  if (steps === 0) return { ...config, model };
  const until = step + steps;
  const fresh = mlpsOf(model).flatMap((mlp, layer) =>
    mlp.kind === "polymorphic"
      ? [
        `layers.${layer}.mlp.router.*`,
        `layers.${layer}.mlp.branches.${mlp.branches.length - 1}.*`,
      ]
      : []
  );
  const { optimizer } = config;
  return {
    ...config,
    model: forceProb > 0 ? withForcing(model, step, until, forceProb) : model,
    optimizer: { ...optimizer, freeze: [...optimizer.freeze, { except: fresh, until }] },
  };
}

/** Branches are forced from a step until another, and no more. */
function withForcing<M extends ModelConfig>(
  model: M,
  from: number,
  until: number,
  probability: number,
): M {
  if (!("blocks" in model)) return model;
  const points: [number, number][] = [[from, probability], [until, 0]];
  const schedule = { kind: "points" as const, points, interpolate: "hold" as const };
  const blocks = model.blocks.map((block) => {
    const { mlp } = block;
    if (mlp.kind !== "polymorphic") return block;
    const each = mlp.forcing?.each ?? "sequence";
    return { ...block, mlp: { ...mlp, forcing: { probability: schedule, each } } };
  });
  return { ...model, blocks };
}

function paramsOf(model: CompleteModelConfig): NamedParam[] {
  return namedParams(buildModel(model).params);
}

/** What a layer's router divides by in the next update. */
function tauOf(config: ResolvedConfig, layer: number, step: number): number {
  const mlp = mlpsOf(config.model)[layer];
  if (mlp.kind !== "polymorphic") throw new Error(`layer ${layer} has no router`);
  return valueAt(mlp.tau, step, timelineOf(config));
}

/** The routers' biases for the new branch, by the path of a router's biases. */
function newBiases(
  file: SafetensorsFile,
  params: readonly NamedParam[],
  bias: (path: string, old: Float32Array) => number,
): ReadonlyMap<string, number> {
  const grown = params.filter(({ path, shape }) =>
    path.endsWith(".router.out_bias") && file.tensors.get(path)?.shape[0] === shape[0] - 1
  );
  return new Map(grown.map(({ path }) => [path, bias(path, file.read(path) as Float32Array)]));
}

/** The checkpoint's tensors and what is new; each is made when its turn to be written comes. */
function grownTensors(
  { model, optimizer, averages }: Checkpoint,
  config: ResolvedConfig,
  params: readonly NamedParam[],
  biases: ReadonlyMap<string, number>,
): CheckpointTensors {
  const valuesIn = (file: SafetensorsFile, name: string) =>
    file.tensors.has(name) ? file.read(name) as Float32Array : undefined;
  const source = (name: string, shape: readonly number[], data: TensorSource["data"]) => ({
    name,
    shape,
    dtype: "F32" as const,
    data,
  });
  const weights = (file: SafetensorsFile) =>
    params.map((param) =>
      source(param.path, param.shape, () =>
        grownValues(param, valuesIn(file, param.path), {
          seed: config.seed,
          routerBias: biases.get(param.path) ?? 0,
        }))
    );
  const { buffers } = bindOptimizer(config.optimizer, params);
  return {
    model: weights(model),
    optimizer: Object.entries(buffers).flatMap(([buffer, specs]) =>
      Object.entries(specs).map(([path, { shape }]) => {
        const name = `${buffer}.${path}`;
        return source(name, shape, () => grownMoments(shape, valuesIn(optimizer, name)));
      })
    ),
    averages: Object.fromEntries(
      averageKinds.flatMap((kind) => {
        const file = averages[kind];
        return file ? [[kind, weights(file)]] : [];
      }),
    ),
  };
}
