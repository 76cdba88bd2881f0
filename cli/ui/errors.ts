/**
 * The words for what went wrong: what happened, where, what to try.
 *
 * @module
 */
import process from "node:process";
import { styleText } from "node:util";
import { type ExitCode, exitCodes, messageOf } from "../../core/io/errors.ts";

/** An error's message for a terminal, and the code to exit with. */
export interface Explanation {
  text: string;
  exitCode: ExitCode;
}

/**
 * Explains anything that was thrown. Errors that carry an exit code (a `UserError`, a device's error) are
 * shown without a stack; others are faults of quern, and say how to see where.
 */
export function explainError(error: unknown): Explanation {
  const stack = Deno.env.get("QUERN_DEBUG") && error instanceof Error ? `\n${error.stack}` : "";
  const exitCode = exitCodeOf(error);
  const label = styleText("red", "error:", { stream: process.stderr });
  const where = textField(error, "where");
  const place = where === undefined ? "" : `${where}: `;
  if (exitCode !== undefined) {
    const hint = textField(error, "hint");
    const help = hint === undefined
      ? ""
      : `\n${styleText("dim", "hint:", { stream: process.stderr })} ${hint}`;
    return { text: `${label} ${place}${messageOf(error)}${help}${stack}`, exitCode };
  }
  const advice = stack || "\nhint: set QUERN_DEBUG=1 to see where it happened";
  return { text: `${label} ${messageOf(error)}${advice}`, exitCode: exitCodes.failed };
}

function exitCodeOf(error: unknown): ExitCode | undefined {
  if (!(error instanceof Error) || !("exitCode" in error)) return undefined;
  return Object.values(exitCodes).find((code) => code === error.exitCode);
}

function textField(error: unknown, name: "where" | "hint"): string | undefined {
  const value: unknown = error instanceof Error ? Reflect.get(error, name) : undefined;
  return typeof value === "string" ? value : undefined;
}
