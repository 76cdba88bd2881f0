/**
 * A model that continues many prompts greedily, in rows that take one prompt after another: a row that is
 * done is free for the next, while the others go on.
 */

import type { Device, Executable, HostArray, StateStore } from "../device/types.ts";
import { leavesOf, type Spec } from "../graph/mod.ts";
import type { Tensors } from "../io/tensors.ts";
import { type Model, type RunPoint, runValues } from "../model/mod.ts";
import { hasPlaces } from "../nn/mod.ts";
import { type Plan, planGraph } from "../plan/mod.ts";
import { type Layout, traceDecode } from "./programs.ts";
import { traceAdopt, traceStage } from "./slot_programs.ts";
import { fillStored } from "./weights.ts";

type Ids = ArrayLike<number>;

/** Tokens of a prompt that are read at once, powers of two. */
const longestChunk = 256, shortestChunk = 16;

/** The likeliest token, always. */
const greedy = Float32Array.of(0, 0, 1, 0);

/** Sums of what a staged prompt begins with, so that the next need not read it. */
interface Kept {
  readonly ids: Ids;
  readonly sums: ReadonlyMap<string, HostArray>;
}

export class Slots implements Disposable {
  readonly #stages = new Map<number, Executable>();
  /** Of each row: tokens that the device has, and the one that comes next. */
  readonly #start: Int32Array;
  readonly #last: Int32Array;
  /** State of the staged row that does not go back to an earlier text by its length alone. */
  readonly #sums: readonly string[];
  #staged: Ids = [];
  #kept: Kept | undefined;
  #isMoved = false;
  /** Tokens of prompts that were read, without padding. */
  read = 0;

  private constructor(
    readonly model: Model,
    readonly layout: Layout,
    readonly device: Device,
    readonly point: RunPoint,
    readonly state: StateStore,
    readonly decode: Executable,
    readonly adopt: Executable,
  ) {
    this.#start = new Int32Array(layout.batch);
    this.#last = new Int32Array(layout.batch);
    this.#sums = leavesOf<Spec>(model.state({ ...layout, batch: 1 }))
      .filter(({ leaf }) => !hasPlaces(leaf))
      .map(({ path }) => `staged.${path}`);
  }

  static async create(
    source: { readonly model: Model; readonly file: Tensors; readonly point: RunPoint },
    device: Device,
    layout: Layout,
    longestRun: number,
  ): Promise<Slots> {
    const { model, file, point } = source;
    const decoding = planGraph(traceDecode(model, layout), device.target);
    const adopting = planGraph(traceAdopt(model, layout), device.target);
    using stack = new DisposableStack();
    const state = stack.use(device.createState(entriesOf([decoding, adopting])));
    fillStored(state, file, model, layout.weights);
    const decode = stack.use(await device.compile(decoding, state, { ring: longestRun }));
    const adopt = stack.use(await device.compile(adopting, state, { ring: 1 }));
    stack.move();
    return new Slots(model, layout, device, point, state, decode, adopt);
  }

  /**
   * Gives a row its prompt, of one token at least and no more than the capacity. What it begins with is not
   * read again if the prompt before began so; where the model keeps sums, only the first `shared` tokens
   * are remembered.
   */
  async put(slot: number, ids: Ids, shared = 0): Promise<void> {
    const known = this.#goBack(ids);
    if (this.#sums.length > 0 && shared > known) {
      await this.#stage(ids, known, shared);
      this.#kept = {
        ids: Array.prototype.slice.call(ids, 0, shared),
        sums: await this.#readSums(),
      };
      await this.#stage(ids, shared, ids.length - 1);
    } else await this.#stage(ids, known, ids.length - 1);
    this.#staged = ids;
    this.adopt.run({ slot: [slot] });
    this.#start[slot] = ids.length - 1;
    this.#last[slot] = ids[ids.length - 1];
    this.#isMoved = true;
  }

  /** A row that nobody asks for begins anew, which is the cheapest that it can do. */
  free(slot: number): void {
    this.#start[slot] = this.#last[slot] = 0;
    this.#isMoved = true;
  }

  /** So many tokens for each row, those of a step together. */
  async run(steps: number): Promise<readonly Int32Array[]> {
    if (this.#isMoved) {
      this.state.write("start", this.#start);
      this.state.write("last", this.#last);
      this.#isMoved = false;
    }
    this.state.write("generated", [0]);
    this.decode.run({ settings: greedy, ...this.#told(this.layout.batch) }, steps);
    const found = (await this.decode.outputs()).map(({ token }) => token as Int32Array);
    this.#start.forEach((_, slot) => this.#start[slot] += steps);
    this.#last.set(found[found.length - 1]);
    return found;
  }

  /** How much of the prompt the staged row has; it goes back there. */
  #goBack(ids: Ids): number {
    const most = ids.length - 1;
    if (this.#sums.length === 0) return Math.min(most, commonLength(this.#staged, ids));
    const kept = this.#kept;
    if (!kept || kept.ids.length > most || commonLength(kept.ids, ids) < kept.ids.length) return 0;
    for (const [name, values] of kept.sums) this.state.write(name, values);
    return kept.ids.length;
  }

  async #stage(ids: Ids, from: number, to: number): Promise<void> {
    for (let at = from; at < to;) {
      const length = chunkFor(to - at), own = Math.min(length, to - at);
      const chunk = Int32Array.from({ length }, (_, t) => t < own ? ids[at + t] : 0);
      const stage = await this.#stageOf(length);
      stage.run({ ids: chunk, start: [at], lengths: [own], ...this.#told(1) });
      this.read += own;
      at += own;
    }
  }

  async #stageOf(length: number): Promise<Executable> {
    const known = this.#stages.get(length);
    if (known) return known;
    const plan = planGraph(traceStage(this.model, this.layout, length), this.device.target);
    const made = await this.device.compile(plan, this.state, { ring: 1 });
    this.#stages.set(length, made);
    return made;
  }

  async #readSums(): Promise<ReadonlyMap<string, HostArray>> {
    const read = async (name: string) => [name, await this.state.read(name)] as const;
    return new Map(await Promise.all(this.#sums.map(read)));
  }

  /** What the model's parts are told besides tokens. */
  #told(rows: number) {
    return runValues(this.model, this.point, "measuring", { rows });
  }

  [Symbol.dispose](): void {
    for (const stage of this.#stages.values()) stage[Symbol.dispose]();
    this.adopt[Symbol.dispose]();
    this.decode[Symbol.dispose]();
    this.state[Symbol.dispose]();
  }
}

/** What several plans keep, each once. */
function entriesOf(plans: readonly Plan[]): Plan["state"] {
  const entries = plans.flatMap(({ state }) => state);
  return [...new Map(entries.map((entry) => [entry.name, entry])).values()];
}

function chunkFor(rest: number): number {
  return Math.min(longestChunk, Math.max(shortestChunk, 2 ** Math.floor(Math.log2(rest))));
}

/** How many tokens two texts have in common from their beginnings on. */
export function commonLength(a: Ids, b: Ids): number {
  const most = Math.min(a.length, b.length);
  for (let at = 0; at < most; at++) if (a[at] !== b[at]) return at;
  return most;
}
