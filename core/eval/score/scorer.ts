/** Log-probabilities of given tokens, many rows at once. */

import type { Device, Executable, HostArray, StateStore } from "../../device/types.ts";
import { bytesOf, type Graph, leavesOf, type Spec } from "../../graph/mod.ts";
import { namedParams, runValues } from "../../model/mod.ts";
import type { OpenedModel } from "../../open/mod.ts";
import { planGraph } from "../../plan/mod.ts";
import { fillState } from "../../train/trainer.ts";
import { batchesOf, type BatchLimits, roundSize, type ScoreBatch } from "./batches.ts";
import { chunkOf, stateSpecs, traceBase, traceScores } from "./programs.ts";
import { share, type Sharing, type TokenRow, windowed } from "./rows.ts";
import { uploadsOf } from "./uploads.ts";

/** What scoring takes of an opened model. */
export type ScoredModel = Pick<OpenedModel, "model" | "file" | "point">;

export interface ScorerOptions {
  /** Rows at once; as many as fit unless given. No score depends on it. */
  readonly batch?: number | undefined;
  /** Whether what rows have in common is computed once; it is unless given. */
  readonly sharing?: Sharing | undefined;
}

/** A row's score. */
export interface RowScore {
  /** Of each target, in nats. */
  readonly logprobs: Float32Array;
  /** Whether every target is the likeliest token. */
  readonly is_greedy: boolean;
}

/** A family whose rows are all scored. */
export interface ScoredFamily {
  /** Its place in the list, and its rows' scores in their order. */
  readonly family: number;
  readonly scores: readonly RowScore[];
}

/** What one batch brought. */
export interface Scored {
  readonly families: readonly ScoredFamily[];
  /** Tokens that the model read for it, and those that it would have read row by row. */
  readonly computed: number;
  readonly tokens: number;
}

export interface ScoreRequest {
  /** Rows that may begin alike: those of one document. */
  readonly families: readonly (readonly TokenRow[])[];
  /** Families whose scores are known. Batches are made as if they were not, so that no score changes. */
  readonly isKnown?: (family: number) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Tokens that a batch computes, of trunks and of branches. */
const batchTokens = { cpu: 4096, webgpu: 8192 };
/** Bytes of the states that a batch keeps. */
const stateBytes = 2 ** 29;
/** Plans that are kept ready: as many as these bytes of memory of theirs allow, and the last ones. */
const keptBytes = 2 ** 28, keptPlans = 2;
/** Tokens of a base that are read at once. */
const baseChunk = 256;

/** A model that scores; close it with `using`. The device stays the caller's. */
export class Scorer implements Disposable {
  readonly #plans = new Map<string, Executable>();

  private constructor(
    readonly source: ScoredModel,
    readonly device: Device,
    readonly state: StateStore,
    readonly limits: BatchLimits,
    readonly sharing: Sharing,
  ) {}

  static create(source: ScoredModel, device: Device, options: ScorerOptions = {}): Scorer {
    const { model, file } = source;
    const entries = leavesOf<Spec>(stateSpecs(model))
      .map(({ path, leaf: { shape, dtype } }) => ({ name: path, shape, dtype }));
    using stack = new DisposableStack();
    const state = stack.use(device.createState(entries));
    const params = namedParams(model.params).map(({ path, shape }) => ({ name: path, shape }));
    fillState(state, file, "params.", params);
    const perPosition = leavesOf<Spec>(model.state({ batch: 1, capacity: 64 }))
      .reduce((sum, { leaf }) => sum + bytesOf(leaf), 0) / 64;
    const limits = {
      rows: options.batch ?? 0,
      tokens: batchTokens[device.info.kind],
      positions: Math.floor(stateBytes / perPosition),
    };
    // a token that depends on later ones, or on its row's random numbers, is nobody else's
    const isOwn = model.looksAhead || model.noise === "always";
    stack.move();
    return new Scorer(source, device, state, limits, isOwn ? "off" : options.sharing ?? "on");
  }

  /** Scores in batches, the longest rows first. A row longer than the model's positions keeps its end. */
  async *score(
    { families, isKnown = () => false, signal }: ScoreRequest,
  ): AsyncGenerator<Scored, void> {
    const positions = this.source.model.dims.max_position_embeddings;
    const rows = families.flat().map((row) => windowed(row, positions));
    const familyOf = families.flatMap((family, i) => family.map(() => i));
    let next = 0;
    const places = families.map((family) => family.map(() => next++));
    const { base, trunks } = share(rows, places, this.sharing);
    const batches = batchesOf(trunks, this.limits).filter(({ trunks }) =>
      trunks.some(({ branches }) => branches.some(({ row }) => !isKnown(familyOf[row])))
    );
    const scores: (RowScore | undefined)[] = [], waiting = families.map(({ length }) => length);
    const collect = async (batch: ScoreBatch, plan: Executable): Promise<Scored> => {
      const done: ScoredFamily[] = [], [found] = await plan.outputs();
      for (const { row, score } of this.#read(batch, found)) {
        const family = familyOf[row];
        scores[row] = score;
        if (--waiting[family] > 0 || isKnown(family)) continue;
        done.push({ family, scores: places[family].map((place) => scores[place]!) });
      }
      return { families: done, ...countTokens(batch) };
    };
    let pending: Promise<Scored> | undefined, isRead = false;
    for (const batch of batches) {
      if (signal?.aborted) break;
      if (batch.trunks[0].base > 0 && !isRead) {
        await this.#readBase(base);
        isRead = true;
      }
      const started = collect(batch, await this.#run(batch));
      if (pending) yield await pending; // the device goes on with the next meanwhile
      pending = started;
    }
    if (pending) yield await pending;
  }

  async #readBase(base: readonly number[]): Promise<void> {
    const { model, point } = this.source;
    for (let at = 0; at < base.length; at += baseChunk) {
      const part = base.slice(at, at + baseChunk), length = Math.max(16, roundSize(part.length));
      const plan = await this.#plan(`base ${length}`, () => traceBase(model, length), 1);
      const ids = Int32Array.from({ length }, (_, i) => part[i] ?? 0);
      const told = runValues(model, point, "measuring", { rows: 1 });
      plan.run({ ids, start: [at], lengths: [part.length], ...told });
    }
  }

  /** Submits a batch; its outputs are to be asked for at once. */
  async #run(batch: ScoreBatch): Promise<Executable> {
    const { model, point } = this.source, { shape } = batch;
    const key = Object.values(shape).join(" ");
    const plan = await this.#plan(key, () => traceScores(model, shape), 2);
    plan.run(uploadsOf(model, point, batch));
    return plan;
  }

  #read({ shape, trunks }: ScoreBatch, outputs: Outputs): { row: number; score: RowScore }[] {
    const chunk = chunkOf(this.source.model, shape);
    const at = (name: string, place: number) =>
      outputs[`${name}.${Math.floor(place / chunk)}`][place % chunk];
    let place = 0;
    return trunks.flatMap(({ branches }) =>
      branches.map(({ row, targets }) => {
        const first = place;
        place += targets.length;
        const logprobs = Float32Array.from(targets, (_, i) => at("logprob", first + i));
        const is_greedy = targets.every((id, i) => at("best", first + i) === id);
        return { row, score: { logprobs, is_greedy } };
      })
    );
  }

  /** A plan of a shape; those that were not asked for lately are let go, with their memory. */
  async #plan(key: string, trace: () => Graph, ring: number): Promise<Executable> {
    const known = this.#plans.get(key);
    this.#plans.delete(key);
    const plan = known ??
      await this.device.compile(planGraph(trace(), this.device.target), this.state, { ring });
    this.#plans.set(key, plan);
    const bytesOf = ({ plan: { totals } }: Executable) => totals.peakBytes - totals.stateBytes;
    let bytes = [...this.#plans.values()].reduce((sum, one) => sum + bytesOf(one), 0);
    for (const [old, kept] of this.#plans) {
      if (bytes <= keptBytes || this.#plans.size <= keptPlans) break;
      bytes -= bytesOf(kept);
      await this.device.idle();
      kept[Symbol.dispose]();
      this.#plans.delete(old);
    }
    return plan;
  }

  [Symbol.dispose](): void {
    for (const plan of this.#plans.values()) plan[Symbol.dispose]();
    this.state[Symbol.dispose]();
  }
}

type Outputs = Readonly<Record<string, HostArray>>;

function countTokens({ trunks }: ScoreBatch): Pick<Scored, "computed" | "tokens"> {
  let computed = 0, tokens = 0;
  for (const { base, ids, branches } of trunks) {
    computed += ids.length;
    for (const branch of branches) {
      computed += branch.ids.length;
      tokens += base + ids.length + branch.ids.length;
    }
  }
  return { computed, tokens };
}
