/**
 * What a terminal sends of pasted text, between its marks, as keys that type it and do nothing else:
 * a line feed in it is no Enter, and a tab completes nothing.
 *
 * @module
 */
import { StringDecoder } from "node:string_decoder";
import type { TransformCallback } from "node:stream";

const begin = "\x1b[200~", end = "\x1b[201~";

/** Alt-Enter and Alt-Tab, which readline itself ignores. */
const lineFeedKey = "\x1b\r", tabKey = "\x1b\t";

/** Whether a key stands for a tab that was pasted. */
export function isPastedTab(key: { name?: string; meta?: boolean } | undefined): boolean {
  return key?.meta === true && key.name === "tab";
}

/** Takes keys as they come, cut anywhere. */
export function pasteFilter(): (
  chunk: Uint8Array,
  encoding: string,
  done: TransformCallback,
) => void {
  const decoder = new StringDecoder("utf8");
  let held = "", isPasted = false;
  return (chunk, _, done) => {
    held += decoder.write(chunk as never);
    let keys = "";
    for (;;) {
      const mark = isPasted ? end : begin, at = held.indexOf(mark);
      const text = at < 0
        ? held.slice(0, held.length - begunMark(held, mark, isPasted))
        : held.slice(0, at);
      keys += isPasted ? typed(text) : text;
      held = held.slice(at < 0 ? text.length : at + mark.length);
      if (at < 0) break;
      isPasted = !isPasted;
    }
    done(null, keys);
  };
}

/** How much of the end may be the beginning of a mark, or in a paste half a line feed. A single escape is a key by itself, unless it is within a paste. */
function begunMark(text: string, mark: string, isPasted: boolean): number {
  for (let length = Math.min(mark.length - 1, text.length); length > (isPasted ? 0 : 1); length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return isPasted && text.endsWith("\r") ? 1 : 0;
}

function typed(text: string): string {
  return text.replaceAll(/\r\n|\r|\n/g, "\n")
    .replaceAll(/(?![\n\t])\p{Cc}/gu, "")
    .replaceAll("\n", lineFeedKey)
    .replaceAll("\t", tabKey);
}
