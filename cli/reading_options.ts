/**
 * Options of the commands that read text: which documents a file holds.
 *
 * @module
 */
import { InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { wholeNumber } from "./options.ts";

/** `--format`. */
export function formatOption() {
  return new Option("--format <name>", "auto goes by the file's name")
    .choices(["auto", "text", "jsonl", "parquet"] as const).default("auto" as const);
}

/** The fields that are read where none is given. */
export const defaultFields: readonly string[] = ["text"];

/** `--field`; several are joined by a blank line. */
export function fieldOption() {
  return new Option(
    "--field <name>",
    'field of a record that holds the text; repeat it to join several (default: "text")',
  ).argParser((name: string, before: readonly string[] | undefined) => {
    if (name === "") throw new InvalidArgumentError("It may not be empty.");
    return [...before ?? [], name];
  });
}

/** `--on-error`. */
export function onErrorOption() {
  return new Option("--on-error <policy>", "what to do with a document that cannot be used")
    .choices(["stop", "skip"] as const).default("stop" as const);
}

/** `--threads`: of the work on text. */
export function textThreadsOption() {
  return new Option("--threads <n>", "threads that work on the text (default: all cores)")
    .argParser(wholeNumber(1));
}
