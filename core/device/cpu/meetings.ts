/**
 * Where the pool's members must wait for each other: only where one would read what another has not
 * written yet, or overwrite what it still reads.
 */

import { bytesOf, type Spec } from "../../graph/mod.ts";
import type { PlanStep, Storage } from "../../plan/types.ts";
import type { CpuLowered } from "./target.ts";

/** Bytes from `first` up to, not including, `end`. */
export interface Access {
  readonly first: number;
  readonly end: number;
  readonly writes: boolean;
}

/** What an entry touches. */
export interface Footprint {
  /** Done by all members together, not by the main thread alone. */
  readonly shared: boolean;
  /** Entries of one step follow one another. */
  readonly step: number;
  readonly accesses: readonly Access[];
}

/** All of memory: for work that nobody may overtake. */
export const everything: Access = { first: 0, end: Infinity, writes: true };

export function accessesOf(
  step: PlanStep<CpuLowered>,
  address: (storage: Storage) => number,
): Access[] {
  const access = (storage: Storage, bytes: number, writes: boolean): Access => {
    const first = address(storage);
    return { first, end: first + bytes, writes };
  };
  const tensors = (places: readonly Storage[], specs: readonly Spec[], writes: boolean) =>
    places.map((storage, i) => access(storage, bytesOf(specs[i]), writes));
  return [
    ...tensors(step.inputs, step.context.inputs, false),
    ...tensors(step.outputs, step.context.outputs, true),
    ...step.scratch.map((storage, i) => access(storage, step.lowered.scratchBytes[i], true)),
  ];
}

/**
 * For each entry whether the members meet after it. They always meet at the end of a round in which
 * they shared work.
 */
export function meetingsOf(footprints: readonly Footprint[]): boolean[] {
  const meets = footprints.map(() => false);
  let byAll: Access[] = [], byMain: Access[] = [];
  footprints.forEach(({ shared, step, accesses }, i) => {
    const before = footprints[i - 1];
    const follows = before !== undefined && before.step === step && (before.shared || shared);
    if (follows || conflict(accesses, byAll) || (shared && conflict(accesses, byMain))) {
      meets[i - 1] = true;
      byAll = [];
      byMain = [];
    }
    (shared ? byAll : byMain).push(...accesses);
  });
  if (footprints.some(({ shared }) => shared)) meets[meets.length - 1] = true;
  return meets;
}

function conflict(some: readonly Access[], others: readonly Access[]): boolean {
  return some.some((a) =>
    others.some((b) => (a.writes || b.writes) && a.first < b.end && b.first < a.end)
  );
}
