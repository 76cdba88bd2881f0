/** Weight decay by role. */

import { z } from "zod";
import { type Role, roles } from "../nn/mod.ts";
import type { PlacedSchedule } from "./record.ts";
import { nonnegativeSchedule, type Schedule } from "./schedule.ts";

const decay = nonnegativeSchedule;

/**
 * One number or schedule decays matrices alone: embeddings, gains, biases and routers are left. A map
 * decays the roles that it names.
 */
export const decayConfig = z.union([
  decay,
  z.strictObject({
    kind: z.never().optional(), // what has one is a schedule, even if it is misspelt
    matrix: decay.default(0),
    embedding: decay.default(0),
    gain: decay.default(0),
    bias: decay.default(0),
    router: decay.default(0),
  }),
]);
export type DecayConfig = z.output<typeof decayConfig>;

function isTable(config: DecayConfig): config is Extract<DecayConfig, { matrix: Schedule }> {
  return typeof config === "object" && "matrix" in config;
}

export function decayOf(config: DecayConfig, role: Role): Schedule {
  return isTable(config) ? config[role] : role === "matrix" ? config : 0;
}

/** Decay by role, whole: what a resolved config says. */
export function decayTable(config: DecayConfig): Record<Role, Schedule> {
  return Object.fromEntries(roles.map((role) => [role, decayOf(config, role)])) as Record<
    Role,
    Schedule
  >;
}

export function decaySchedules(config: DecayConfig): PlacedSchedule[] {
  return isTable(config)
    ? roles.map((role) => ({ path: ["weight_decay", role], schedule: config[role] }))
    : [{ path: ["weight_decay"], schedule: config }];
}
