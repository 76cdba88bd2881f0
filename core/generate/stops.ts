/** Texts that end a continuation, wherever the edges of tokens fall. */

/** Takes text as it comes and gives back what is certain to stand before any stop text. */
export interface StopWatch {
  push(text: string): string;
  /** What was held back, as it was no stop text after all. */
  end(): string;
  /** The stop text that was met; from then on nothing more comes. */
  readonly met: string | undefined;
}

/**
 * The stop text that is complete first ends the text before it; of two that are complete at once,
 * the longer. So the result does not depend on the pieces that the text came in.
 */
export function stopWatch(stops: readonly string[]): StopWatch {
  let held = "", met: string | undefined;
  return {
    push(text) {
      if (met !== undefined) return "";
      held += text;
      const match = firstMatch(held, stops);
      if (match) met = match.stop;
      const certain = match?.at ?? held.length - heldBack(held, stops);
      const given = held.slice(0, certain);
      held = match ? "" : held.slice(certain);
      return given;
    },
    end() {
      const rest = held;
      held = "";
      return rest;
    },
    get met() {
      return met;
    },
  };
}

function firstMatch(text: string, stops: readonly string[]) {
  return stops
    .map((stop) => ({ stop, at: text.indexOf(stop) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at + a.stop.length - b.at - b.stop.length || a.at - b.at)
    .at(0);
}

/** Units at the end of `text` that may be the beginning of a stop text. */
function heldBack(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1));
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    const end = text.slice(-length);
    if (stops.some((stop) => stop.startsWith(end))) return length;
  }
  return 0;
}
