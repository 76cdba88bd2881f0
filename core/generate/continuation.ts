/** The text of one row while its tokens come. */

import { streamingDecoder } from "../text/streaming.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { stopWatch } from "./stops.ts";

/** The model ended the text, or its turn; `stop`: a stop text came. */
export type TextEnd = "end_of_text" | "end_of_turn" | "stop";

export interface Continuation {
  /** Text that is certain by now: no half characters, and nothing that may be a stop text. */
  push(id: number): string;
  /** What was held back, if the text goes no further. It may turn out to end in a stop text. */
  end(): string;
  /** Why no further token belongs to the text; undefined while it goes on. */
  readonly ended: TextEnd | undefined;
}

/** `turnEnds`: ids that end a turn, of which the end of a text is always one. */
export function continuation(
  tokenizer: Tokenizer,
  stops: readonly string[],
  turnEnds: readonly number[] = [],
): Continuation {
  const decoder = streamingDecoder(tokenizer), watch = stopWatch(stops);
  let end: TextEnd | undefined;
  return {
    push(id) {
      if (id === tokenizer.endOfText) end = "end_of_text";
      else if (turnEnds.includes(id)) end = "end_of_turn";
      return end ? "" : watch.push(decoder.push(id));
    },
    end: () => watch.push(decoder.end()) + watch.end(),
    get ended() {
      return watch.met !== undefined ? "stop" : end;
    },
  };
}
