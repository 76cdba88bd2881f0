/**
 * Option values that several commands share. Each parser refuses an empty text and trailing rubbish,
 * which `Number` would let through.
 *
 * @module
 */
import { type CommandUnknownOpts, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";

/** A number in decimal notation, nothing before or after it. */
export function parseNumber(text: string): number {
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(value)) throw new InvalidArgumentError("Not a number.");
  return value;
}

/** A parser for whole numbers of at least `least`. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = parseNumber(text);
    if (value > Number.MAX_SAFE_INTEGER) throw new InvalidArgumentError("Too large.");
    if (!Number.isInteger(value) || value < least) {
      throw new InvalidArgumentError(`Not a whole number of at least ${least}.`);
    }
    return value;
  };
}

/** A parser for numbers from `least` up to `most`, both included. */
export function numberBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = parseNumber(text);
    if (value < least || value > most) {
      throw new InvalidArgumentError(
        most === Infinity ? `Not at least ${least}.` : `Not between ${least} and ${most}.`,
      );
    }
    return value;
  };
}

/** A size in bytes: "24GB" counts in powers of 1000, "24GiB" in powers of 1024. */
export function parseBytes(text: string): number {
  const [, number = "", prefix = "", binary] = text.match(/^([\d.]+) ?([KMGT])(i?)B$/) ?? [];
  const value = number === "" ? NaN : parseNumber(number);
  if (!(value > 0)) throw new InvalidArgumentError("Not a size such as 24GB or 22.5GiB.");
  return Math.floor(value * (binary ? 1024 : 1000) ** (1 + "KMGT".indexOf(prefix)));
}

/** A path; a shell's empty variable is none. */
export function parsePath(text: string): string {
  if (text === "") throw new InvalidArgumentError("It may not be empty.");
  return text;
}

/** A text with its escapes resolved: a shell passes `\n` as two characters. */
export function parseText(text: string): string {
  if (text === "") throw new InvalidArgumentError("It may not be empty.");
  const escapes: Record<string, string> = { n: "\n", r: "\r", t: "\t", "\\": "\\" };
  return text.replace(/\\(.)/g, (both, letter: string) => escapes[letter] ?? both);
}

/** Refuses `--out --json`, which would take the flag for the folder's name. */
export function refuseSwallowedFlags(command: CommandUnknownOpts, args: readonly string[]): void {
  const known = (text: string) =>
    command.options.find(({ long, short }) => text === long || text === short);
  for (const [i, arg] of args.entries()) {
    if (arg === "--") return;
    const next = args[i + 1] ?? "";
    if (!known(arg)?.required || !known(next.split("=")[0])) continue;
    throw new UserError(`option '${arg}' has no value: ${next} follows`, {
      hint: `if ${next} is the value, write ${arg}=${next}`,
    });
  }
}

/** The value of `--seed`: 32 bits, as the random number generator takes. */
export function parseSeed(text: string): number {
  const value = wholeNumber(0)(text);
  if (value > 0xffffffff) throw new InvalidArgumentError("Not below 2^32.");
  return value;
}

/** `--seed <n>`, also from QUERN_SEED; a command adds its default. */
export function seedOption() {
  return new Option("--seed <n>", "seed of everything random").env("QUERN_SEED").argParser(
    parseSeed,
  );
}
