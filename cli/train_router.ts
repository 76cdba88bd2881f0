/**
 * What a training run says of a model's routers: a line at each step that is logged, and a warning when a limit of
 * `router_health` is broken anew.
 *
 * @module
 */
import type { StepEvent } from "../core/train/mod.ts";
import { formatCount } from "./ui/numbers.ts";

type RouterEvent = Pick<StepEvent, "step" | "watched" | "routerHealth">;

/** Remembers what was warned of. */
export class RouterStory {
  #told: ReadonlySet<string> = new Set();

  /** Lines for an update; none of models without routers. */
  lines({ step, watched, routerHealth = {} }: RouterEvent): string[] {
    const faults = Object.entries(routerHealth);
    const fresh = faults.filter(([limit]) => !this.#told.has(limit));
    this.#told = new Set(faults.map(([limit]) => limit));
    return [
      ...routerLine(watched),
      ...fresh.map(([limit, what]) =>
        `warning: step ${formatCount(step)}: ${what} (router_health.${limit})`
      ),
    ];
  }
}

/** `[router] alpha=[0.341, 0.336, 0.323] entropy_norm=0.998`: means over tokens and layers. */
function routerLine(watched: StepEvent["watched"]): string[] {
  const { "router.alpha": alpha, "router.entropy_norm": entropy } = watched;
  if (typeof alpha !== "object" || typeof entropy !== "number") return [];
  const shares = alpha.map((share) => share.toFixed(3)).join(", ");
  return [`[router] alpha=[${shares}] entropy_norm=${entropy.toFixed(3)}`];
}
