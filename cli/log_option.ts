/**
 * `--log`: where the numbers of a training run go besides `metrics.jsonl`; the config's `log` from the command line.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";

export function logOption() {
  return new Option("--log <kind>", "also write the run's numbers as event files for TensorBoard")
    .choices(["tensorboard"] as const);
}

/** What it overrides in the config. */
export function logOverrides(kind: "tensorboard" | undefined): string[] {
  return kind === undefined ? [] : [`log=[${kind}]`];
}
