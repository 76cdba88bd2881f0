/**
 * Ctrl-C: the first asks the work to stop cleanly, the second stops the process at once.
 *
 * @module
 */
import { exitCodes, UserError } from "../../core/io/errors.ts";

/** A signal that aborts at the first Ctrl-C (or SIGTERM); dispose of it to get the usual Ctrl-C back. */
export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
}

/** Listens for Ctrl-C. `message` is what the aborted work's error says. */
export function listenForInterrupt(message: string, hint?: string): Interruption {
  const controller = new AbortController();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const onSignal = () => {
    if (controller.signal.aborted) Deno.exit(exitCodes.interrupted);
    const parts = { exitCode: exitCodes.interrupted, ...(hint === undefined ? {} : { hint }) };
    controller.abort(new UserError(message, parts));
  };
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
    },
  };
}
