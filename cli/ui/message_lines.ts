/**
 * Messages that are typed or piped line by line.
 *
 * @module
 */

/** Collects lines until they are a message. */
export interface MessageLines {
  /** Takes a line, which may have been pasted with line feeds in it; the message, if it is whole. */
  push(line: string): string | undefined;
  /** Whether a message was begun. */
  readonly isOpen: boolean;
  /** What was begun and has no end, as far as it goes. */
  end(): string | undefined;
}

const fence = '"""';

/**
 * A line is a message. It goes on in the next after a backslash at its end (two stand for one), and
 * from `"""` to `"""` lines are taken as they are.
 */
export function messageLines(): MessageLines {
  let held: string[] = [], isFenced = false;
  const take = () => {
    const message = held.join("\n");
    [held, isFenced] = [[], false];
    return message;
  };
  return {
    push(line) {
      const opens = held.length === 0 && line.trimStart().startsWith(fence);
      if (opens) isFenced = true;
      const text = opens ? line.trimStart().slice(fence.length) : line;
      if (isFenced) {
        const closes = text.trimEnd().endsWith(fence);
        const inside = closes ? text.trimEnd().slice(0, -fence.length) : text;
        // the fences may stand in lines of their own, which are then no part of the message
        if (!(opens || closes) || inside !== "") held.push(inside);
        if (closes) return take();
        return undefined;
      }
      const [slashes] = text.match(/\\*$/)!;
      const goesOn = slashes.length % 2 === 1;
      held.push(
        text.slice(0, text.length - slashes.length) +
          slashes.slice(slashes.length - (slashes.length >> 1)),
      );
      return goesOn ? undefined : take();
    },
    get isOpen() {
      return held.length > 0 || isFenced;
    },
    end() {
      return held.length > 0 ? take() : undefined;
    },
  };
}
