/** Decay rates of moments, which may change over a run. */

import { z } from "zod";
import { type Curve, curveOf, type Schedule, scheduleOf } from "./schedule.ts";
import type { Clock } from "./span.ts";

export const betaConfig = scheduleOf(z.number().min(0).lt(1)).meta({ id: "beta_schedule" });

/**
 * What a moment of update `step` (from 0) is divided by. With m₀ = 0 and mₜ = βₜmₜ₋₁ + (1 − βₜ)gₜ the weights of all gradients
 * in mₜ add up to 1 − β₁β₂…βₜ, exactly, whatever the betas; that is 1 − βᵗ where they are one number. The product is
 * taken from the first update on, in order, so it is the same after a resume.
 */
export function biasCorrection(beta: Schedule, clock: Clock): Curve {
  if (typeof beta === "number") return (step) => 1 - beta ** (step + 1);
  const betaAt = curveOf(beta, clock);
  let taken = 0, product = 1;
  return (step) => {
    if (step + 1 < taken) [taken, product] = [0, 1];
    while (taken <= step) product *= betaAt(taken++);
    return 1 - product;
  };
}
