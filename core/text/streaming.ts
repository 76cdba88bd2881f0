/**
 * Text that appears while tokens arrive: never half a character, and in the end exactly the full
 * decode.
 *
 * @module
 */
import type { Tokenizer } from "./tokenizer.ts";

/** Takes tokens one by one and gives back the text that is certain by now. */
export interface StreamingDecoder {
  push(id: number): string;
  /** What was held back; an unfinished character comes as U+FFFD. */
  end(): string;
}

/** A streaming decoder for any tokenizer. */
export function streamingDecoder(tokenizer: Tokenizer): StreamingDecoder {
  return tokenizer.bytesOf === undefined ? textStream(tokenizer) : byteStream(tokenizer.bytesOf);
}

function byteStream(bytesOf: (id: number) => Uint8Array): StreamingDecoder {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (id) => decoder.decode(bytesOf(id), { stream: true }),
    end: () => decoder.decode(),
  };
}

/** How many of the last tokens are decoded anew, once the window before them is settled. */
const windowTokens = 8;

/**
 * For decoders that look at neighbours (a first space dropped, `##` joined, bytes fused): decodes a
 * window of tokens again and gives what is new, unless its end may still change.
 */
function textStream(tokenizer: Tokenizer): StreamingDecoder {
  let window: number[] = [];
  let given = ""; // of the window's text
  const take = (text: string) => {
    if (!text.startsWith(given)) return ""; // a later token changed the end: wait for more
    const fresh = text.slice(given.length);
    given = text;
    return fresh;
  };
  return {
    push(id) {
      window.push(id);
      const text = tokenizer.decode(window);
      if (text.endsWith("\uFFFD")) return ""; // perhaps half a character
      const fresh = take(text);
      if (window.length >= 4 * windowTokens) {
        const tail = window.slice(-windowTokens);
        const tailText = tokenizer.decode(tail);
        if (given === text && text.endsWith(tailText) && tailText !== "") {
          [window, given] = [tail, tailText];
        }
      }
      return fresh;
    },
    end: () => take(tokenizer.decode(window)),
  };
}
