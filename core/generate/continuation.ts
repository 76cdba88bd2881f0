/** The text of one row while its tokens come. */

import { streamingDecoder } from "../text/streaming.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { stopWatch } from "./stops.ts";

/** `end_of_text`: the model ended the text; `stop`: a stop text came. */
export type TextEnd = "end_of_text" | "stop";

export interface Continuation {
  /** Text that is certain by now: no half characters, and nothing that may be a stop text. */
  push(id: number): string;
  /** What was held back, if the text goes no further. It may turn out to end in a stop text. */
  end(): string;
  /** Why no further token belongs to the text; undefined while it goes on. */
  readonly ended: TextEnd | undefined;
}

export function continuation(tokenizer: Tokenizer, stops: readonly string[]): Continuation {
  const decoder = streamingDecoder(tokenizer), watch = stopWatch(stops);
  let isEndOfText = false;
  return {
    push(id) {
      if (id !== tokenizer.endOfText) return watch.push(decoder.push(id));
      isEndOfText = true;
      return "";
    },
    end: () => watch.push(decoder.end()) + watch.end(),
    get ended() {
      return watch.met !== undefined ? "stop" : isEndOfText ? "end_of_text" : undefined;
    },
  };
}
