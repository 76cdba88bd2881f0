/** A model in training on a device: its state, its plans, and one update at a time. Knows neither files nor schedules. */

import { type Batch, countOf } from "../data/batches.ts";
import type { Device, Executable, HostArray, StateStore } from "../device/types.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import type { TensorSource } from "../io/safetensors.ts";
import type { Tensors } from "../io/tensors.ts";
import { initialValues, type NamedParam, namedParams, type RunPoint } from "../model/mod.ts";
import {
  type AverageKind,
  averageKinds,
  type AverageWeights,
  type OptimizerScalars,
} from "../optim/mod.ts";
import { type Plan, planGraph } from "../plan/mod.ts";
import type { Checkpoint, CheckpointTensors } from "./checkpoint.ts";
import { traceProbe } from "./probe.ts";
import { named, planTraining, stateOfAll, type Training, type TrainPlans } from "./plans.ts";
import { metricsIn, traceLosses } from "./programs.ts";
import { rowInputs, type RowShape } from "./rows.ts";

/** What an update found out. */
export interface UpdateResult {
  readonly lossSum: number;
  /** ‖mean gradient‖₂ before clipping. */
  readonly norm: number;
  /** Whether this update and all before it had finite gradients. Where not, nothing was changed. */
  readonly isHealthy: boolean;
  /** What the model's parts watch, summed over the targets. */
  readonly metrics: Readonly<Record<string, readonly number[]>>;
}

/** What an update is told of the run: where it stands, and how far averages of the weights move. */
export interface UpdatePoint extends RunPoint {
  readonly averages: AverageWeights;
}

/** The first update of models that nothing is scheduled in. */
const beginning: UpdatePoint = { scalars: new Float32Array(), seed: 0, step: 0, averages: [0, 0] };

/** What runs while a stage lasts. */
interface UpdateRuns {
  readonly stage: number;
  readonly update: Executable;
  /** In the order of the stage's shapes. */
  readonly accumulate: readonly Executable[];
}

export class Trainer implements Disposable {
  readonly params: readonly NamedParam[];
  /** Weights at `params.`, moments, and what the other plans keep. */
  readonly state: StateStore;
  readonly #training: Training;
  readonly #plans: TrainPlans;
  readonly #device: Device;
  /** In the order of the shapes that are measured. */
  readonly #losses: readonly Executable[];
  readonly #ring: number;
  #runs: UpdateRuns | undefined;

  private constructor(
    training: Training,
    plans: TrainPlans,
    device: Device,
    held: { state: StateStore; losses: readonly Executable[]; ring: number },
  ) {
    [this.#training, this.#plans, this.#device] = [training, plans, device];
    [this.state, this.#losses, this.#ring] = [held.state, held.losses, held.ring];
    this.params = namedParams(training.model.params);
  }

  /**
   * Begins in `stage`. That those after it can be had, too, is tried first, one after the other: what cannot fit is
   * known before anything is trained. `ring`: updates whose results are kept until they are read. `others`: plans that share the state.
   */
  static async create(
    training: Training,
    device: Device,
    ring: number,
    { stage = 0, others = [] }: { stage?: number; others?: readonly Plan[] } = {},
  ): Promise<Trainer> {
    const plans = planTraining(training, device.target);
    using stack = new DisposableStack();
    const state = stack.use(device.createState(stateOfAll(plans, others)));
    const losses: Executable[] = [];
    for (const plan of plans.losses) {
      losses.push(stack.use(await device.compile(plan, state, { ring: 2 })));
    }
    const trainer = new Trainer(training, plans, device, { state, losses, ring });
    stack.defer(() => trainer.#leave());
    for (let later = plans.stages.length - 1; later >= stage; later--) await trainer.enter(later);
    stack.move();
    return trainer;
  }

  /** Goes on with the shapes of a stage. Weights and moments stay where they are; results must have been read. */
  async enter(stage: number): Promise<void> {
    const plans = this.#plans.stages[stage], { name } = this.#training.stages[stage];
    if (this.#runs && this.#plans.stages[this.#runs.stage] === plans) {
      this.#runs = { ...this.#runs, stage };
      return;
    }
    this.#leave(); // its memory is needed
    using stack = new DisposableStack();
    const compile = async (plan: Plan, ring: number) =>
      stack.use(await this.#device.compile(plan, this.state, { ring }));
    try {
      const update = await compile(plans.update, this.#ring), accumulate: Executable[] = [];
      for (const plan of plans.accumulate) accumulate.push(await compile(plan, 1));
      this.#runs = { stage, update, accumulate };
    } catch (error) {
      throw named(error, name);
    }
    stack.move();
  }

  #leave(): void {
    for (const part of this.#runs?.accumulate ?? []) part[Symbol.dispose]();
    this.#runs?.update[Symbol.dispose]();
    this.#runs = undefined;
  }

  /** What parts of an update look like now. */
  get #shapes(): readonly RowShape[] {
    return this.#training.stages[this.#runs!.stage].shapes;
  }

  /**
   * First weights, those of a file where one is given, and averages of them; all that the optimizer keeps is zero. A tensor that
   * the file lacks, has too many or in another shape is an error.
   */
  initialize(seed: number, from?: Tensors): void {
    if (from) requireTensors(from, this.params.map(({ path, shape }) => ({ name: path, shape })));
    for (const param of this.params) {
      const values = from?.read(param.path) as Float32Array ?? initialValues(param, seed);
      for (const place of ["params", ...this.averages]) {
        this.state.write(`${place}.${param.path}`, values);
      }
    }
    this.state.write("healthy", [1]);
  }

  /** The averages of the weights that are kept. */
  get averages(): AverageKind[] {
    const { averages = {} } = this.#training.options;
    return averageKinds.filter((kind) => averages[kind]);
  }

  /**
   * Weights, their averages and the optimizer's buffers of a checkpoint; an average that it lacks begins with the weights.
   * A tensor that is missing, too many or of another shape is an error.
   */
  restore({ model, optimizer, averages }: Checkpoint): void {
    const fill = (file: Tensors, prefix: string, entries: readonly Entry[]) =>
      fillState(this.state, file, prefix, entries);
    const params = this.params.map((param) => ({ ...param, name: param.path }));
    fill(model, "params.", params);
    for (const kind of this.averages) fill(averages[kind] ?? model, `${kind}.`, params);
    fill(optimizer, "", this.#buffers());
    this.state.write("healthy", [1]);
  }

  #buffers(): Entry[] {
    return Object.entries(this.#training.optimizer.buffers).flatMap(([buffer, specs]) =>
      Object.entries(specs).map(([path, { shape }]) => ({ name: `${buffer}.${path}`, shape }))
    );
  }

  /** Submits an update on the rows of `parts`; waits for nothing. */
  update(
    parts: readonly Batch[],
    { hyper, maxNorm: max_norm }: OptimizerScalars,
    point: UpdatePoint = beginning,
  ): void {
    const shapes = this.#shapes, { update, accumulate } = this.#runs!;
    let firstRow = 0;
    const placed = parts.map((part) => {
      const at = placeOf(shapes, part), shape = shapes[at];
      const inputs = rowInputs(this.#training.model, part, {
        shape,
        point,
        use: "training",
        firstRow,
      });
      firstRow += shape.rows;
      return { at, inputs };
    });
    const scalars = {
      hyper,
      max_norm,
      count: parts.reduce((sum, part) => sum + countOf(part), 0),
      ...(this.averages.length > 0 && { averages: Float32Array.from(point.averages) }),
    };
    if (accumulate.length === 0) {
      update.run({ ...placed[0].inputs, ...scalars });
      return;
    }
    placed.forEach(({ at, inputs }, i) => accumulate[at].run({ ...inputs, keep: i === 0 ? 0 : 1 }));
    update.run(scalars);
  }

  /** Results of the updates since the last call, in order; more may be submitted before it resolves. */
  async results(): Promise<UpdateResult[]> {
    const runs = await this.#runs!.update.outputs();
    return runs.map(({ loss_sum, norm, healthy, ...others }) => ({
      lossSum: loss_sum[0],
      norm: norm[0],
      isHealthy: healthy[0] === 1,
      metrics: Object.fromEntries(
        Object.entries(metricsIn(others)).map(([name, sums]) => [name, Array.from(sums)]),
      ),
    }));
  }

  /**
   * Mean loss of the targets in nats, each as much as its weight: summed in their order and in double precision, so that the size of
   * a batch does not enter. `targets` is the sum of the weights.
   */
  async measure(
    batches: Iterable<Batch>,
    point: RunPoint = beginning,
  ): Promise<{ loss: number; targets: number }> {
    return await this.#measureWith(this.#losses, batches, point);
  }

  /** The same with an average of the weights. The last of a run: updates are over then, and what they took is given back. */
  async averageMeasurer(kind: AverageKind): Promise<Pick<Trainer, "measure"> & Disposable> {
    this.#leave();
    const { model, measured } = this.#training;
    using stack = new DisposableStack();
    const losses: Executable[] = [];
    for (const shape of measured) {
      const plan = planGraph(traceLosses(model, shape, kind), this.#device.target);
      losses.push(stack.use(await this.#device.compile(plan, this.state, { ring: 2 })));
    }
    const owned = stack.move();
    return {
      measure: (batches, point = beginning) => this.#measureWith(losses, batches, point),
      [Symbol.dispose]: () => owned.dispose(),
    };
  }

  async #measureWith(losses: readonly Executable[], batches: Iterable<Batch>, point: RunPoint) {
    const { model, measured } = this.#training;
    let sum = 0, targets = 0;
    const read = async (
      outputs: Promise<Readonly<Record<string, HostArray>>[]>,
      { weights }: Batch,
    ) => {
      for (const { losses } of await outputs) {
        for (let i = 0; i < losses.length; i++) sum += (weights ? weights[i] : 1) * losses[i];
      }
    };
    let pending: Promise<void> = Promise.resolve();
    for (const batch of batches) {
      const at = placeOf(measured, batch), shape = measured[at];
      losses[at].run(rowInputs(model, batch, { shape, point, use: "measuring" }));
      targets += countOf(batch);
      const outputs = losses[at].outputs();
      await pending;
      pending = read(outputs, batch);
    }
    await pending;
    return { loss: sum / targets, targets };
  }

  /** The first tensor, in the order of a step, that is not finite on these rows; undefined if all are. */
  async firstBadTensor(
    parts: readonly Batch[],
    point: RunPoint = beginning,
  ): Promise<string | undefined> {
    const { model, options } = this.#training, shapes = this.#shapes;
    let firstRow = 0;
    for (const part of parts) {
      const shape = shapes[placeOf(shapes, part)];
      const { graph, names } = traceProbe(model, shape, options);
      using probe = await this.#device.compile(
        planGraph(graph, this.#device.target),
        this.state,
        { ring: 1 },
      );
      probe.run(rowInputs(model, part, { shape, point, use: "training", firstRow }));
      const [checks] = await probe.outputs();
      const bad = names.findIndex((_, i) => !Number.isFinite(checks[`check_${i}`][0]));
      if (bad >= 0) return names[bad];
      firstRow += shape.rows;
    }
    return undefined;
  }

  /** The tensors of a checkpoint; values are read when their turn to be written comes. */
  tensors(): CheckpointTensors {
    const source = ({ name, shape }: Entry, key: string): TensorSource => ({
      name,
      shape,
      dtype: "F32",
      data: () => this.state.read(key),
    });
    const weights = (place: string) =>
      this.params.map(({ path, shape }) => source({ name: path, shape }, `${place}.${path}`));
    return {
      model: weights("params"),
      optimizer: this.#buffers().map((entry) => source(entry, entry.name)),
      averages: Object.fromEntries(this.averages.map((kind) => [kind, weights(kind)])),
    };
  }

  [Symbol.dispose](): void {
    this.#leave();
    for (const losses of this.#losses) losses[Symbol.dispose]();
    this.state[Symbol.dispose]();
  }
}

/** Which of the shapes a batch has. */
function placeOf(shapes: readonly RowShape[], { rows, length }: Batch): number {
  const at = shapes.findIndex((shape) => shape.rows === rows && shape.length === length);
  if (at >= 0) return at;
  throw new RangeError(`no plan is made for ${rows} rows of ${length}`);
}

interface Entry {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Copies a file's tensors into the state entries `prefix + name`; both must have the same ones. */
export function fillState(
  state: StateStore,
  file: Tensors,
  prefix: string,
  entries: readonly Entry[],
): void {
  requireTensors(file, entries);
  for (const { name } of entries) fillEntry(state, prefix + name, file, name);
}

/** Copies one tensor into an entry, without a second copy on the way where the file can. */
export function fillEntry(state: StateStore, entry: string, file: Tensors, name: string): void {
  const isBf16 = state.entries.find((one) => one.name === entry)?.dtype === "bf16";
  if (isBf16 && file.storesBf16?.(name)) {
    state.fillBf16(entry, (into, at) => file.readBf16Into!(name, into, at));
  } else if (file.readInto) state.fill(entry, (into, at) => file.readInto!(name, into, at));
  else state.write(entry, file.read(name) as Float32Array);
}

/** Refuses a file that has other tensors than these. */
export function requireTensors(file: Tensors, entries: readonly Entry[]): void {
  const fail = (what: string): never => {
    throw new UserError(what, { where: file.path, exitCode: exitCodes.failed });
  };
  for (const { name, shape } of entries) {
    const found = file.tensors.get(name);
    if (!found) return fail(`has no tensor ${name}`);
    if (found.dtype !== "F32" || found.shape.join() !== shape.join()) {
      return fail(`${name} is ${found.dtype} [${found.shape}], the model needs F32 [${shape}]`);
    }
  }
  const known = new Set(entries.map(({ name }) => name));
  const extra = [...file.tensors.keys()].find((name) => !known.has(name));
  if (extra) fail(`has a tensor ${extra} that the model has not`);
}
