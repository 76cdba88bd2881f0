/**
 * The hub as commands ask it: by the environment's settings, patiently.
 *
 * @module
 */
import type { Hub, HubSettings, Retry } from "../core/hub/mod.ts";
import { version } from "./version.ts";

/** Who is told, and how long is waited. */
export interface HubManners {
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
  onRetry(retry: Retry): void;
}

export function hubFor(
  settings: HubSettings,
  { timeoutSeconds, signal, onRetry }: HubManners,
): Hub {
  return {
    ...settings,
    agent: `quern/${version}`,
    patience: { stallMs: timeoutSeconds * 1000, waitMs: 500, attempts: 5 },
    signal,
    onRetry,
  };
}
