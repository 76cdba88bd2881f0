/**
 * Where long work stands: one line redrawn on a terminal, plain lines now and then in a pipe.
 *
 * @module
 */
import process from "node:process";
import { columnsOf, cutToWidth } from "./terminal.ts";

/** Shows the latest state of some work on stderr. */
export interface Progress {
  /** Offers a new state; `line` is only called when it is time to show one. */
  update(line: () => string): void;
  /** Prints a line that stays, above the live one. */
  note(line: string): void;
  /** Removes the live line. */
  end(): void;
}

/** How often a new line is shown. */
export interface ProgressPace {
  terminalMs?: number;
  pipeMs?: number;
}

const silent: Progress = { update() {}, note() {}, end() {} };

/** A progress line on stderr; a silent one for `--quiet`. */
export function progressLine(
  verbosity: "quiet" | "normal",
  { terminalMs = 100, pipeMs = 5000 }: ProgressPace = {},
): Progress {
  if (verbosity === "quiet") return silent;
  const redraws = process.stderr.isTTY && Deno.env.get("TERM") !== "dumb";
  return redraws ? terminalProgress(terminalMs) : pipeProgress(pipeMs);
}

function terminalProgress(everyMs: number): Progress {
  let shownAt = -Infinity, clear = "";
  return {
    update(line) {
      if (performance.now() - shownAt < everyMs) return;
      shownAt = performance.now();
      const columns = columnsOf(process.stderr) ?? 80;
      say(clear + cutToWidth(line(), columns - 1)); // a wrapped line cannot be redrawn
      clear = "\r\x1b[2K";
    },
    note(line) {
      say(`${clear}${line}\n`);
      clear = "";
    },
    end() {
      say(clear);
      clear = "";
    },
  };
}

function pipeProgress(everyMs: number): Progress {
  let shownAt = performance.now(); // short work shows nothing
  return {
    update(line) {
      if (performance.now() - shownAt < everyMs) return;
      shownAt = performance.now();
      say(`${line()}\n`);
    },
    note: (line) => say(`${line}\n`),
    end() {},
  };
}

/** Long work goes on when nobody reads its progress any more, as in `quern … 2>&1 | head`. */
function say(text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
