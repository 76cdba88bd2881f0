/**
 * The words for what went wrong: what happened, where, what to try.
 *
 * @module
 */
import process from "node:process";
import { styleText } from "node:util";
import { atPath, type ExitCode, exitCodes, messageOf, UserError } from "../../core/io/errors.ts";

/** An error's message for a terminal, and the code to exit with. */
export interface Explanation {
  text: string;
  exitCode: ExitCode;
}

/**
 * Explains anything that was thrown. Errors that carry an exit code (a `UserError`, a device's error) are
 * shown without a stack, and so is what the system refuses; others are faults of quern, and say how to see where.
 */
export function explainError(thrown: unknown): Explanation {
  const error = atPath(thrown);
  const stack = Deno.env.get("QUERN_DEBUG") && thrown instanceof Error ? `\n${thrown.stack}` : "";
  const exitCode = exitCodeOf(error);
  if (exitCode === undefined && isOutOfMemory(error)) {
    const hint = "make the model, the rows or the batch smaller";
    return explainError(
      new UserError(`out of memory: ${messageOf(error)}`, {
        hint,
        exitCode: exitCodes.outOfMemory,
        cause: error,
      }),
    );
  }
  const isFault = exitCode === undefined && !Deno.env.get("QUERN_DEBUG");
  const where = textField(error, "where"), message = messageOf(error);
  const hint = isFault ? "set QUERN_DEBUG=1 to see where it happened" : textField(error, "hint");
  const label = exitCode === exitCodes.interrupted // as the user asked
    ? "note:"
    : styleText("red", "error:", { stream: process.stderr });
  const place = where === undefined ? "" : `${where}: `;
  const help = hint === undefined
    ? ""
    : `\n${styleText("dim", "hint:", { stream: process.stderr })} ${plain(hint)}`;
  return {
    text: `${label} ${plain(place + message)}${help}${stack}`,
    exitCode: exitCode ?? exitCodes.failed,
  };
}

/** Names from files are shown, and may not move the cursor or colour what follows. */
function plain(text: string): string {
  return text.replaceAll(/(?![\n\t])\p{Cc}/gu, "\ufffd");
}

/** An array that the engine could not make. */
function isOutOfMemory(error: unknown): boolean {
  return error instanceof RangeError &&
    /^(Array buffer allocation failed|Invalid (typed array|array buffer) length)/i.test(
      error.message,
    );
}

function exitCodeOf(error: unknown): ExitCode | undefined {
  if (!(error instanceof Error) || !("exitCode" in error)) return undefined;
  return Object.values(exitCodes).find((code) => code === error.exitCode);
}

function textField(error: unknown, name: "where" | "hint"): string | undefined {
  const value: unknown = error instanceof Error ? Reflect.get(error, name) : undefined;
  return typeof value === "string" ? value : undefined;
}
