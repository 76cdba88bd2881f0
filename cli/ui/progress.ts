/**
 * Where long work stands: one line redrawn on a terminal, plain lines now and then in a pipe.
 *
 * @module
 */
import process from "node:process";

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
  return process.stderr.isTTY ? terminalProgress(terminalMs) : pipeProgress(pipeMs);
}

function terminalProgress(everyMs: number): Progress {
  let shownAt = -Infinity;
  const clear = "\r\x1b[2K";
  return {
    update(line) {
      if (performance.now() - shownAt < everyMs) return;
      shownAt = performance.now();
      const columns = process.stderr.columns || 80;
      say(clear + line().slice(0, columns - 1)); // a wrapped line cannot be redrawn
    },
    note: (line) => say(`${clear}${line}\n`),
    end: () => say(clear),
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
