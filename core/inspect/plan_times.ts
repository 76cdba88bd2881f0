/**
 * How long a device takes for plans that it has not run: the kernels that they are made of are timed one by one, at
 * their own sizes, on zeros. Layers are alike, so a whole model has few of them.
 */

import type { Device, Executable } from "../device/types.ts";
import { OutOfMemoryError } from "../device/types.ts";
import { bytesOf, type Cost } from "../graph/mod.ts";
import { layOut, type Plan, type PlanStep, type Storage } from "../plan/mod.ts";

export interface PlanTimes {
  /** Of each plan, in their order. */
  readonly seconds: readonly number[];
  /** The part of all that was timed; the rest follows from the rate of kernels of its op, or of all. */
  readonly timedShare: number;
}

/** A kernel that has more bytes than this is not timed. */
const mostBytes = 2 ** 29;

export interface TimingOptions {
  /** Seconds that it may take, roughly; 2 unless given. */
  readonly limit?: number;
  /** Plans with smaller kernels of the same ops, to be timed for those that take too long. */
  readonly smaller?: readonly Plan[];
}

/** Times the plans' kernels, the quickest first. Undefined where not one could be timed. */
export async function timePlans(
  device: Device,
  plans: readonly Plan[],
  { limit = 2, smaller = [] }: TimingOptions = {},
): Promise<PlanTimes | undefined> {
  const kinds = kindsOf([...plans, ...smaller]), began = performance.now();
  const left = () => limit - (performance.now() - began) / 1000;
  const timed: Timed[] = [];
  for (const kind of kinds) {
    // one run to warm up, two to time
    if (kind.bytes > mostBytes || 3 * guess(kind, timed) > left()) continue;
    const seconds = await timeStep(device, kind.step);
    if (seconds !== undefined) timed.push({ ...kind, seconds });
  }
  if (timed.length === 0) return undefined;
  const found = new Map(timed.map(({ key, seconds }) => [key, seconds]));
  const secondsOf = new Map(
    kinds.map((kind) => [kind.key, found.get(kind.key) ?? guess(kind, timed)]),
  );
  const total = (steps: readonly PlanStep<unknown>[], of: ReadonlyMap<string, number>) =>
    steps.reduce((sum, step) => sum + (of.get(keyOf(step)) ?? 0), 0);
  const all = plans.flatMap(({ steps }) => steps);
  return {
    seconds: plans.map(({ steps }) => total(steps, secondsOf)),
    timedShare: total(all, found) / total(all, secondsOf),
  };
}

/** Steps of one op, attributes and shapes. */
interface Kind extends Cost {
  readonly key: string;
  readonly step: PlanStep<unknown>;
}

interface Timed extends Kind {
  readonly seconds: number;
}

/** The least work first. */
function kindsOf(plans: readonly Plan[]): Kind[] {
  const kinds = new Map<string, Kind>();
  for (const step of plans.flatMap(({ steps }) => steps)) {
    const key = keyOf(step), { op, context } = step;
    if (!kinds.has(key)) {
      kinds.set(key, { key, step, ...op.cost?.(context) ?? { flops: 0, bytes: 0 } });
    }
  }
  const work = (kind: Kind) => roofline(kind, slowRates);
  return [...kinds.values()].sort((a, b) => work(a) - work(b));
}

const keys = new WeakMap<PlanStep<unknown>, string>();

function keyOf(step: PlanStep<unknown>): string {
  const known = keys.get(step);
  if (known !== undefined) return known;
  const { op, context } = step;
  const key = `${op.name} ${
    JSON.stringify(context, (_, value) =>
      value instanceof Map || value instanceof Set ? [...value] : value)
  }`;
  keys.set(step, key);
  return key;
}

/** What a device does in a second. */
type Rates = Cost;

/** A very slow processor. */
const slowRates: Rates = { flops: 2e9, bytes: 1e9 };

/** Seconds that every kernel takes, however small. */
const startOf = (timed: readonly Timed[]) => Math.min(...timed.map(({ seconds }) => seconds));

/** Kernels whose time is not mostly that of starting them: only they say something of others. */
function telling(timed: readonly Timed[]): Timed[] {
  const start = startOf(timed);
  return timed.filter(({ seconds }) => seconds >= Math.max(2e-4, 3 * start))
    .map((kind) => ({ ...kind, seconds: kind.seconds - start }));
}

/** The best seen: a kernel is bound by one of the two. */
function ratesOf(seen: readonly Timed[]): Rates {
  const best = (of: keyof Cost) =>
    Math.max(slowRates[of], ...seen.map((kind) => kind[of] / kind.seconds));
  return { flops: best("flops"), bytes: best("bytes") };
}

const roofline = ({ flops, bytes }: Cost, rates: Rates) =>
  Math.max(flops / rates.flops, bytes / rates.bytes);

/** Seconds of a kernel by the largest one of its op that was timed; else by what the device can do. */
function guess(kind: Kind, timed: readonly Timed[]): number {
  const seen = telling(timed), rates = ratesOf(seen), start = timed.length > 0 ? startOf(timed) : 0;
  const like = seen.findLast(({ step }) => step.op === kind.step.op);
  const own = roofline(kind, rates), its = like ? roofline(like, rates) : 0;
  return start + (its > 0 ? like!.seconds * own / its : own);
}

/** Seconds of one step, alone in a plan; undefined where the device has no room for it. */
async function timeStep(device: Device, step: PlanStep<unknown>): Promise<number | undefined> {
  try {
    const plan = planOf(device, step);
    using state = device.createState(plan.state);
    using executable = await device.compile(plan, state, { ring: 1 });
    return await timeRuns(device, executable);
  } catch (error) {
    if (error instanceof OutOfMemoryError) return undefined;
    throw error;
  }
}

/** Inputs are state, which begins as zeros: an index that is not one would lead outside. */
function planOf({ target }: Device, step: PlanStep<unknown>): Plan {
  const { op, context, lowered } = step;
  const scratchBytes = target.lower(op, context).scratchBytes;
  const sizes = [...context.outputs.map(bytesOf), ...scratchBytes];
  const { offsets, bytes } = layOut(
    sizes.map((bytes) => ({ bytes, first: 0, last: 0 })),
    target,
  );
  const inputs = context.inputs.map((_, index): Storage => ({ space: "state", index }));
  const places = offsets.map((offset): Storage => ({ space: "arena", offset }));
  const outputs = context.outputs.map((_, i) => {
    const overwritten = op.inplace?.[i];
    return overwritten === undefined ? places[i] : inputs[overwritten];
  });
  const scratch = places.slice(context.outputs.length);
  const state = context.inputs.map((spec, i) => ({ ...spec, name: `input.${i}` }));
  const { flops, bytes: bytesMoved } = op.cost?.(context) ?? { flops: 0, bytes: 0 };
  return {
    state,
    uploads: [],
    host: [],
    constants: [],
    outputs: [],
    steps: [{ ...step, lowered, inputs, outputs, scratch }],
    totals: {
      stateBytes: 0,
      arenaBytes: bytes,
      uploadBytes: 0,
      constantBytes: 0,
      peakBytes: bytes,
      flops,
      bytesMoved,
      dispatches: 1,
    },
  };
}

/** The middle one of some measurements, of which the first, while the engine still compiles, does not count. */
async function timeRuns(device: Device, executable: Executable): Promise<number> {
  const once = async (times: number) => {
    const at = performance.now();
    executable.run({}, times);
    await device.idle();
    return (performance.now() - at) / 1000 / times;
  };
  let times = 1, seconds = await once(1);
  while (seconds * times < shortest && times < 1024) {
    times *= 4;
    seconds = await once(times);
  }
  const measured = [];
  for (let spent = 0; measured.length < 2 || (spent < 5 * shortest && measured.length < 5);) {
    const found = await once(times);
    measured.push(found);
    spent += found * times;
  }
  return measured.sort((a, b) => a - b)[measured.length >> 1];
}

/** Shorter times are the clock's and the waiting's. */
const shortest = 4e-3;
