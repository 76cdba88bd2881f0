/** Whether routers still use all of their branches: limits by the step, and which of them are broken. */

import { z } from "zod";
import { type Clock, partSchedule, type PlacedSchedule, valueAt } from "../optim/mod.ts";
import type { Watched } from "./watched.ts";

const held = (...points: [number, number][]) =>
  partSchedule.parse({ kind: "points", points, interpolate: "hold" });

/** Left out, limits are those of the model card of MhaWay/Veronica, for a run of tens of thousands of steps. */
export const routerHealthConfig = z.strictObject({
  /** The least entropy of the branches' weights, 1 being that of even ones. */
  entropy_norm: partSchedule.default(held([0, 0.9], [5000, 0.75], [10_000, 0.7])),
  /** The least that a branch gets, 1 being as much as all others; published for three: 0.25, 0.12 and 0.15 of all. */
  min_share: partSchedule.default(held([0, 0.75], [5000, 0.36], [10_000, 0.45])),
  /** The most that a branch gets of all. */
  max_share: partSchedule.default(0.8),
});
export type RouterHealthConfig = z.output<typeof routerHealthConfig>;

/** Below it the card calls a router collapsed. */
const collapsed = 0.65;

/** Broken limits, by name: what was found, for people. */
export type RouterFaults = Readonly<Partial<Record<keyof RouterHealthConfig, string>>>;

/** Its schedules, by their place in the config. */
export function healthSchedules(config: RouterHealthConfig): PlacedSchedule[] {
  return Object.entries(config).map(([name, schedule]) => ({ path: [name], schedule }));
}

/** Of what an update watched, after `step` updates, counted from 0; undefined where nothing is broken or nothing routed. */
export function routerFaults(
  config: RouterHealthConfig | undefined,
  watched: Watched,
  step: number,
  clock: Clock,
): RouterFaults | undefined {
  const limits = config ?? routerHealthConfig.parse({});
  const entropy = watched["router.entropy_norm"];
  if (typeof entropy !== "number") return undefined;
  const shares = routerShares(watched);
  const limit = (name: keyof RouterHealthConfig) => valueAt(limits[name], step, clock);
  const faults: Partial<Record<keyof RouterHealthConfig, string>> = {};
  if (entropy < limit("entropy_norm")) {
    const what = entropy < collapsed ? "the router has collapsed: its" : "the router's";
    faults.entropy_norm = `${what} entropy_norm ${entropy.toFixed(3)} is below ${
      short(limit("entropy_norm"))
    }`;
  }
  for (const all of shares) {
    const even = 1 / all.length, least = Math.min(...all), most = Math.max(...all);
    if (least < limit("min_share") * even) {
      faults.min_share = `branch ${all.indexOf(least)} gets ${least.toFixed(3)} of the weight, ` +
        `less than ${short(limit("min_share") * even)}`;
    }
    if (most > limit("max_share")) {
      faults.max_share = `branch ${all.indexOf(most)} gets ${most.toFixed(3)} of the weight, ` +
        `more than ${short(limit("max_share"))}`;
    }
  }
  return Object.keys(faults).length > 0 ? faults : undefined;
}

/** The branches' shares of the weight: one list, or several where layers have different numbers of branches. */
export function routerShares(watched: Watched): (readonly number[])[] {
  return Object.entries(watched).flatMap(([name, value]) =>
    /^router\.alpha(\.\d+)?$/.test(name) && typeof value !== "number" ? [value] : []
  );
}

const short = (x: number) => String(Number(x.toFixed(3)));
