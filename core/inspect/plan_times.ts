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
  /** The part of all that was timed; the rest follows from it, see `guess`. */
  readonly timedShare: number;
  /** The middle timings of the same kernels over the least ones: near 1 on a machine that does nothing else. */
  readonly spread: number;
}

/** A kernel that has more bytes than this is not timed. */
const mostBytes = 2 ** 29;

export interface TimingOptions {
  /** Seconds that it may take, roughly; 3 unless given. */
  readonly limit?: number;
  /** Makes plans with smaller kernels of the same ops, to be timed where most kernels would take too long. */
  readonly smaller?: () => readonly Plan[];
}

/**
 * Times the plans' kernels, those that weigh the most first. Undefined where what could be timed says nothing of the
 * rest.
 */
export async function timePlans(
  device: Device,
  plans: readonly Plan[],
  { limit = 3, smaller }: TimingOptions = {},
): Promise<PlanTimes | undefined> {
  const kinds = kindsOf(plans), timed: Timed[] = [], half = limit / 2;
  await timeKinds(device, kinds, { timed, limit: half });
  if (smaller && shareOf(kinds, timed) < enough) {
    await timeKinds(device, kindsOf(smaller()), { timed, limit: half });
  } else await timeKinds(device, kinds, { timed, limit: half });
  const isGuess = shareOf(kinds, timed) < enough;
  if (isGuess && !saysRates(timed)) return undefined;
  const rules = rulesOf(timed);
  // where most of it is not known, what is like a kernel that was timed is not known well either
  const untimed = isGuess
    ? (kind: Kind) => atBest(kind, rules)
    : (kind: Kind) => guess(kind, rules);
  const found = new Map(timed.map(({ key, seconds }) => [key, seconds]));
  const secondsOf = new Map(kinds.map((kind) => [kind.key, found.get(kind.key) ?? untimed(kind)]));
  const total = (steps: readonly PlanStep<unknown>[], of: ReadonlyMap<string, number>) =>
    steps.reduce((sum, step) => sum + (of.get(keyOf(step)) ?? 0), 0);
  const all = plans.flatMap(({ steps }) => steps);
  const middle = new Map(timed.map(({ key, middle }) => [key, middle]));
  return {
    seconds: plans.map(({ steps }) => total(steps, secondsOf)),
    timedShare: total(all, found) / total(all, secondsOf),
    spread: total(all, middle) / total(all, found) || 1,
  };
}

/** Where less of the time than this was timed, the rest is a guess. */
const enough = 0.5;

/** Adds to `timed`; in what time is left then, kernels that were run once or twice are timed again. */
async function timeKinds(
  device: Device,
  kinds: readonly Kind[],
  { timed, limit }: { timed: Timed[]; limit: number },
): Promise<void> {
  const began = performance.now(), left = () => limit - (performance.now() - began) / 1000;
  const time = async (kind: Kind) => {
    const found = await timeStep(device, kind.step, left() / 4);
    if (!found) return;
    const place = timed.findIndex(({ key }) => key === kind.key);
    if (place < 0) timed.push({ ...kind, ...secondsIn(found) });
    else timed[place] = { ...timed[place], ...secondsIn([...timed[place].all, ...found]) };
  };
  const known = new Set(timed.map(({ key }) => key));
  const waiting = new Set(kinds.filter(({ key, bytes }) => !known.has(key) && bytes <= mostBytes));
  while (left() > 0) {
    const rules = rulesOf(timed), next = weightiest(waiting, (kind) => guess(kind, rules), left());
    if (!next) break;
    waiting.delete(next);
    await time(next);
  }
  for (let tries = 0; tries < 20 && left() > 0; tries++) {
    const seldom = timed.filter(({ all }) => all.length < 3);
    const next = weightiest(seldom, ({ middle }) => middle, left());
    if (!next) break;
    await time(next);
  }
}

/** The one that takes the most of all, of those that can be run twice in the time that is left. */
function weightiest<K extends Kind>(
  kinds: Iterable<K>,
  secondsOf: (kind: K) => number,
  left: number,
): K | undefined {
  let found: K | undefined, most = -1;
  for (const kind of kinds) {
    const seconds = secondsOf(kind), weight = kind.count * seconds;
    if (weight > most && 2 * seconds <= left) [found, most] = [kind, weight];
  }
  return found;
}

/** The part of all that was timed. */
function shareOf(kinds: readonly Kind[], timed: readonly Timed[]): number {
  const rules = rulesOf(timed), found = new Map(timed.map(({ key, seconds }) => [key, seconds]));
  let known = 0, all = 0;
  for (const kind of kinds) {
    const seconds = found.get(kind.key);
    known += kind.count * (seconds ?? 0);
    all += kind.count * (seconds ?? guess(kind, rules));
  }
  return known / all;
}

/** Steps of one op, attributes and shapes. */
interface Kind extends Cost {
  readonly key: string;
  readonly step: PlanStep<unknown>;
  /** How many there are. */
  readonly count: number;
}

/** Of a kernel: the least of its timings, as what disturbs one only adds to it, and the middle one. */
interface Seconds {
  readonly seconds: number;
  readonly middle: number;
  /** In order. */
  readonly all: readonly number[];
}

function secondsIn(timings: readonly number[]): Seconds {
  const all = timings.toSorted((a, b) => a - b);
  return { seconds: all[0], middle: all[all.length >> 1], all };
}

interface Timed extends Kind, Seconds {}

function kindsOf(plans: readonly Plan[]): Kind[] {
  const kinds = new Map<string, Kind>();
  for (const step of plans.flatMap(({ steps }) => steps)) {
    const key = keyOf(step), { op, context } = step;
    const known = kinds.get(key);
    const kind = known ?? { key, step, count: 0, ...op.cost?.(context) ?? { flops: 0, bytes: 0 } };
    kinds.set(key, { ...kind, count: kind.count + 1 });
  }
  return [...kinds.values()];
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

/** What kernels that were timed say of others. */
interface Rules {
  /** Seconds that every kernel takes, however small. */
  readonly start: number;
  readonly rates: Rates;
  /** Of each op the kernel with the most work. */
  readonly largest: ReadonlyMap<unknown, Timed>;
}

function rulesOf(timed: readonly Timed[]): Rules {
  const seen = telling(timed), rates = ratesOf(seen), largest = new Map<unknown, Timed>();
  for (const kind of seen) {
    const { op } = kind.step, other = largest.get(op);
    if (!other || roofline(kind, rates) > roofline(other, rates)) largest.set(op, kind);
  }
  return { start: startOf(timed), rates, largest };
}

const startOf = (timed: readonly Timed[]) =>
  timed.length > 0 ? Math.min(...timed.map(({ seconds }) => seconds)) : 0;

/** Kernels whose time is not mostly that of starting them: only they say something of others. */
function telling(timed: readonly Timed[]): Timed[] {
  const start = timed.length > 1 ? startOf(timed) : 0;
  return timed.filter(({ seconds }) => seconds >= Math.max(2e-4, 3 * start))
    .map((kind) => ({ ...kind, seconds: kind.seconds - start }));
}

/** Whether some kernels reached what even a slow processor does, in arithmetic and in memory. */
function saysRates(timed: readonly Timed[]): boolean {
  const seen = telling(timed);
  const isReached = (of: keyof Cost) =>
    seen.some((kind) => kind[of] / kind.seconds > slowRates[of]);
  return isReached("flops") && isReached("bytes");
}

/** The best seen: a kernel is bound by one of the two. */
function ratesOf(seen: readonly Timed[]): Rates {
  const best = (of: keyof Cost) =>
    Math.max(slowRates[of], ...seen.map((kind) => kind[of] / kind.seconds));
  return { flops: best("flops"), bytes: best("bytes") };
}

const roofline = ({ flops, bytes }: Cost, rates: Rates) =>
  Math.max(flops / rates.flops, bytes / rates.bytes);

/** Seconds of a kernel at the best that any one reached. */
const atBest = (kind: Kind, { start, rates }: Rules) => start + roofline(kind, rates);

/** By the largest kernel of its op that was timed, where that is not too small to say something; else at the best. */
function guess(kind: Kind, rules: Rules): number {
  const { start, rates, largest } = rules, like = largest.get(kind.step.op);
  const own = roofline(kind, rates), its = like ? roofline(like, rates) : 0;
  if (!like || own > mostTimes * its) return atBest(kind, rules);
  return start + like.seconds * own / its;
}

/** What disturbed the timing of a kernel is not multiplied by more than this: a batch has more rows than one, a run no more. */
const mostTimes = 256;

/** Timings of one step, alone in a plan; undefined where the device has no room for it. */
async function timeStep(
  device: Device,
  step: PlanStep<unknown>,
  limit: number,
): Promise<number[] | undefined> {
  try {
    const plan = planOf(device, step);
    using state = device.createState(plan.state);
    using executable = await device.compile(plan, state, { ring: 1 });
    return await timeRuns(device, executable, limit);
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

/** Some measurements, fewer after `limit` seconds. The first, while the engine still compiles, only counts where it is long. */
async function timeRuns(device: Device, executable: Executable, limit: number): Promise<number[]> {
  const once = async (times: number) => {
    const at = performance.now();
    executable.run({}, times);
    await device.idle();
    return (performance.now() - at) / 1000 / times;
  };
  const began = performance.now(), isOver = () => (performance.now() - began) / 1000 > limit;
  const first = await once(1), found = first > 10 * shortest ? [first] : [];
  for (let times = 1; found.length < 5 && (found.length === 0 || !isOver());) {
    const seconds = await once(times);
    if (seconds * times < shortest && times < 1024) {
      times *= 4;
      found.length = 0; // what took longer was disturbed
    } else found.push(seconds);
  }
  return found;
}

/** Shorter times are the clock's and the waiting's. */
const shortest = 4e-3;
