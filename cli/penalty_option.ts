/**
 * `--penalty name=value`: what makes tokens that were used less likely.
 *
 * @module
 */
import { InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { GenerateOptions, Penalties } from "../core/generate/mod.ts";
import { nearestName } from "../core/io/errors.ts";
import { numberBetween } from "./options.ts";

/** What all `--penalty` come to. */
export interface PenaltyChoice {
  readonly penalties: Penalties;
  readonly penalized: NonNullable<GenerateOptions["penalized"]>;
}

const none: PenaltyChoice = {
  penalties: { repetition: 1, presence: 0, frequency: 0 },
  penalized: "generated",
};

const readers = new Map<string, (value: string, before: PenaltyChoice) => PenaltyChoice>([
  ["repetition", numeric("repetition", numberBetween(0.01, 100))],
  ["presence", numeric("presence", numberBetween(-100, 100))],
  ["frequency", numeric("frequency", numberBetween(-100, 100))],
  ["counted", (value, before) => {
    if (value === "generated" || value === "all") return { ...before, penalized: value };
    throw new InvalidArgumentError("counted is generated or all.");
  }],
]);

function numeric(name: keyof Penalties, parse: (text: string) => number) {
  return (value: string, before: PenaltyChoice): PenaltyChoice => {
    try {
      return { ...before, penalties: { ...before.penalties, [name]: parse(value) } };
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw new InvalidArgumentError(`${name}: ${error.message}`);
    }
  };
}

/** `--penalty`, repeatable; several may stand in one, with commas between them. */
export function penaltyOption() {
  return new Option(
    "--penalty <name=x>",
    "on used tokens: repetition, presence or frequency; repeatable, see below",
  ).argParser(parsePenalties).default(none, "none");
}

function parsePenalties(text: string, before: PenaltyChoice): PenaltyChoice {
  return text.split(",").reduce((choice, part) => {
    const [, name, value] = part.match(/^([^=]*)=(.*)$/s) ?? [];
    if (name === undefined) {
      throw new InvalidArgumentError("Not of the form name=value, such as repetition=1.1.");
    }
    const read = readers.get(name);
    if (read) return read(value, choice);
    const names = [...readers.keys()], near = nearestName(name, names);
    throw new InvalidArgumentError(
      near === undefined ? `Not one of ${names.join(", ")}.` : `Did you mean ${near}=${value}?`,
    );
  }, before);
}
