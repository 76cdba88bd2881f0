/**
 * Options of the commands that read text: which documents a file holds.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";

/** `--format`. */
export function formatOption() {
  return new Option("--format <name>", "auto goes by the file's name")
    .choices(["auto", "text", "jsonl"] as const).default("auto" as const);
}

/** `--field`. */
export function fieldOption() {
  return new Option("--field <name>", "field of a jsonl record that holds the text")
    .default("text");
}

/** `--on-error`. */
export function onErrorOption() {
  return new Option("--on-error <policy>", "what to do with a document that cannot be used")
    .choices(["stop", "skip"] as const).default("stop" as const);
}
