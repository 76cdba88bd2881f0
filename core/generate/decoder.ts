/** A model that generates on a device: weights, caches, and plans that are made once. */

import {
  type Device,
  type Executable,
  type HostArray,
  OutOfMemoryError,
  type StateStore,
} from "../device/types.ts";
import { leavesOf, philox, type Spec, streamOf, unitInterval } from "../graph/mod.ts";
import type { Tensors } from "../io/tensors.ts";
import { type Model, type RunPoint, runValues } from "../model/mod.ts";
import { hasPlaces } from "../nn/mod.ts";
import { planGraph } from "../plan/mod.ts";
import { hasPenalties, noPenalties, type Penalties } from "./penalties.ts";
import { type Layout, traceDecode, tracePrefill } from "./programs.ts";
import { fillStored } from "./weights.ts";

/** How the next token is chosen. */
export interface Sampling {
  /** 0 always takes the likeliest. */
  readonly temperature: number;
  /** Only so many of the likeliest; 0 is all. */
  readonly topK: number;
  /** Only the likeliest that together have this probability; 1 is all. */
  readonly topP: number;
  /** Only what is at least so many times as probable as the likeliest; all unless given. */
  readonly minP?: number;
  /** Of the first row of a batch; row i draws with seed + i, as it would alone. */
  readonly seed: number;
  /** None unless given; the decoder must keep count for others. */
  readonly penalties?: Penalties;
}

/** What was generated for each row of the batch in one step. */
export interface DecodedStep {
  readonly tokens: Int32Array;
  /** Under the model's own distribution, before temperature and cuts. */
  readonly logprobs: Float32Array;
  /** [batch, vocab], of a decoder that tells them. */
  readonly logits?: Float32Array;
}

/**
 * Tokens of a prompt that are read at once, powers of two: up to `CHUNK`, of which an eighth may be
 * padding; more may only in those up to `PADDED_CHUNK`, which are cheaper than two of half the length.
 */
const CHUNK = 1024, PADDED_CHUNK = 256, SMALLEST_CHUNK = 16;

/** Steps that are submitted at once, so long as they take no longer than a reader waits gladly. */
const BURST = 16, BURST_MS = 50;

/** State that holds a sum of what was read, as it stood after some text: see `PlacesSpec`. */
export type Snapshot = ReadonlyMap<string, HostArray>;

/** Of models that nothing is scheduled in. */
const unscheduled: RunPoint = { scalars: new Float32Array(), seed: 0, step: 0 };

export class Decoder implements Disposable {
  readonly #prefills = new Map<number, Executable>();
  /** The longest that there is memory for. */
  #longestChunk = CHUNK;
  /** Where the run stands whose weights these are; whoever trains them on says so. */
  point: RunPoint;
  #isClaimed = false;

  private constructor(
    readonly model: Model,
    readonly room: Layout,
    readonly device: Device,
    readonly state: StateStore,
    readonly decode: Executable,
    readonly owned: Disposable | undefined,
    point: RunPoint,
  ) {
    this.point = point;
  }

  static async create(
    model: Model,
    weights: Tensors,
    device: Device,
    room: Layout,
    point: RunPoint = unscheduled,
  ): Promise<Decoder> {
    const plan = planGraph(traceDecode(model, room), device.target);
    using stack = new DisposableStack();
    const state = stack.use(device.createState(plan.state));
    fillStored(state, weights, model, room.weights);
    const decode = stack.use(await device.compile(plan, state, { ring: 2 * BURST }));
    stack.move();
    return new Decoder(model, room, device, state, decode, state, point);
  }

  /** Over a store that somebody else keeps, who may change the weights between texts. It has all that decoding needs. */
  static async over(
    state: StateStore,
    model: Model,
    device: Device,
    room: Layout,
  ): Promise<Decoder> {
    const plan = planGraph(traceDecode(model, room), device.target);
    const decode = await device.compile(plan, state, { ring: 2 * BURST });
    return new Decoder(model, room, device, state, decode, undefined, unscheduled);
  }

  /** Tokens that are read at once where so many are left. */
  static chunkFor(rest: number, longest = CHUNK): number {
    const whole = Math.max(SMALLEST_CHUNK, 2 ** Math.ceil(Math.log2(rest)));
    const isPadded = whole > PADDED_CHUNK && whole - rest > whole / 8;
    return Math.min(longest, isPadded ? whole / 2 : whole);
  }

  /** For one generation, until it ends: caches hold one text of each row, so a second would spoil both. */
  claim(): Disposable {
    if (this.#isClaimed) {
      throw new Error("the model is making a text: wait for its end, or open the model once more");
    }
    this.#isClaimed = true;
    return { [Symbol.dispose]: () => void (this.#isClaimed = false) };
  }

  /** How many tokens can follow prompts whose longest has `length` tokens. */
  roomAfter(length: number): number {
    return Math.max(0, this.room.capacity - length + 1);
  }

  /**
   * Reads all but the last token of each row, which `steps` begins with. Rows have one token at least.
   * Those that are not `stale` were read before and keep what the device has of them: it is told
   * where they are, and nothing is written. The device has the first `kept` tokens of stale ones.
   */
  async read(
    rows: readonly ArrayLike<number>[],
    stale: readonly number[] = [...rows.keys()],
    kept = 0,
  ): Promise<void> {
    const { batch, capacity } = this.room;
    const longest = Math.max(1, ...stale.map((row) => rows[row].length));
    for (let at = kept; at < longest - 1;) {
      const { prefill, length } = await this.#prefill(longest - 1 - at);
      const ids = new Int32Array(batch * length), lengths = new Int32Array(batch);
      const start = new Int32Array(batch).fill(capacity);
      for (const b of stale) {
        const row = rows[b];
        start[b] = at;
        for (let t = 0; t < length && at + t < row.length - 1; t++) {
          ids[b * length + t] = row[at + t];
        }
        lengths[b] = Math.max(0, Math.min(length, row.length - 1 - at));
      }
      prefill.run({ ids, start, lengths, ...this.#told() });
      at += length;
    }
    this.state.write("start", rows.map((row) => row.length - 1));
    this.state.write("last", rows.map((row) => row[row.length - 1]));
  }

  /** What the model's parts are told besides tokens. */
  #told() {
    return runValues(this.model, this.point, "measuring", { rows: this.room.batch });
  }

  /** For the first tokens of so many, as many at once as the memory suffices for. */
  async #prefill(rest: number): Promise<{ prefill: Executable; length: number }> {
    const length = Decoder.chunkFor(rest, this.#longestChunk);
    const known = this.#prefills.get(length);
    if (known) return { prefill: known, length };
    try {
      const plan = planGraph(tracePrefill(this.model, this.room, length), this.device.target);
      const prefill = await this.device.compile(plan, this.state, { ring: 1 });
      this.#prefills.set(length, prefill);
      return { prefill, length };
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || length <= PADDED_CHUNK) throw error;
      this.#longestChunk = length / 2;
      return await this.#prefill(rest);
    }
  }

  /** State that does not go back to an earlier text by its length alone; empty where all does. */
  get sums(): readonly string[] {
    return leavesOf<Spec>(this.model.state(this.room))
      .filter(({ leaf }) => !hasPlaces(leaf))
      .map(({ path }) => `model.${path}`);
  }

  /** What `restore` takes back to the text that was read last; nothing may have been generated since. */
  async snapshot(): Promise<Snapshot> {
    const read = async (name: string) => [name, await this.state.read(name)] as const;
    return new Map(await Promise.all(this.sums.map(read)));
  }

  restore(snapshot: Snapshot): void {
    for (const [name, values] of snapshot) this.state.write(name, values);
  }

  /**
   * Up to `count` steps after what was read. More steps may be on their way than the caller takes.
   * `done` tokens of the text were drawn before: their random numbers are used up.
   */
  async *steps(count: number, sampling: Sampling, done = 0): AsyncGenerator<DecodedStep, void> {
    const { capacity, batch } = this.room;
    this.state.write("randoms", randomTable(sampling.seed, done, [capacity, batch]));
    this.state.write("generated", [0]);
    const { temperature, topK, topP, minP = 0 } = sampling;
    const settings = Float32Array.of(temperature, topK, topP, minP);
    const penalties = this.#penalize(sampling.penalties ?? noPenalties, done);
    const inputs = { settings, ...penalties, ...this.#told() };
    let left = count, burst = 1;
    const submit = () => {
      const times = Math.min(burst, left);
      left -= times;
      if (times > 0) this.decode.run(inputs, times);
      return times > 0 ? this.decode.outputs() : undefined;
    };
    let pending = submit(), next: typeof pending;
    try {
      while (pending) {
        const began = performance.now();
        next = submit(); // the device goes on while we wait and print
        const results = await pending;
        const slow = performance.now() - began > BURST_MS;
        burst = slow ? Math.max(1, burst >> 1) : Math.min(BURST, 2 * burst);
        for (const { token, logprob, logits } of results) {
          yield {
            tokens: token as Int32Array,
            logprobs: logprob as Float32Array,
            ...(logits && { logits: logits as Float32Array }),
          };
        }
        pending = next;
      }
    } finally {
      await next; // a caller that has enough leaves steps behind
    }
  }

  /** What a step takes of penalties, and the counts that a text begins with. */
  #penalize(penalties: Penalties, done: number): Partial<Record<string, number>> {
    if (this.room.penalties !== "counted") {
      if (hasPenalties(penalties)) throw new RangeError("opened without count of tokens");
      return {};
    }
    const { before = [], ...uploads } = penalties, vocab = this.model.dims.vocab_size;
    if (done === 0) {
      const counts = new Float32Array(this.room.batch * vocab);
      before.forEach((row, b) => Array.from(row, (id) => counts[b * vocab + id]++));
      this.state.write("counts", counts);
    }
    return uploads;
  }

  [Symbol.dispose](): void {
    for (const prefill of this.#prefills.values()) prefill[Symbol.dispose]();
    this.decode[Symbol.dispose]();
    this.owned?.[Symbol.dispose]();
  }
}

/**
 * Uniform numbers in (0, 1), a row for each token of a text from `first` on and a column for each
 * seed from `seed` on: by Philox, so that they depend on nothing else.
 */
function randomTable(seed: number, first: number, [rows, columns]: [number, number]): Float32Array {
  const table = new Float32Array(rows * columns), stream = streamOf("sample");
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [word] = philox(0, first + row, stream, 0, (seed + column) >>> 0, 0);
      table[row * columns + column] = unitInterval(word);
    }
  }
  return table;
}
