/**
 * Which weights of a run are meant: options of all commands that open a model.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";
import { parsePath } from "./options.ts";

export function averageOption(what = "an average of the weights, where the run keeps one") {
  return new Option("--average <kind>", what)
    .choices(["ema", "swa"] as const);
}

export function checkpointOption() {
  return new Option(
    "--checkpoint <name>",
    "which of the run's: latest, best or step-N (default: latest)",
  )
    .argParser(parsePath);
}

/** What such a command's model may be. */
export const modelArgument = "run folder, one of its checkpoint folders, or a Hugging Face folder";
