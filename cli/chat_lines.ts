/**
 * Where a chat's lines come from: a terminal with an editor and history, or a pipe.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import { styleText } from "node:util";
import { messageOf } from "../core/io/errors.ts";
import { decodeUtf8, splitLines } from "../core/io/lines.ts";
import { completeCommand } from "./chat_commands.ts";
import { addToHistory, readHistory, stateFolder } from "./ui/history.ts";
import { openLineEditor } from "./ui/line_editor.ts";

export interface Line {
  readonly text: string;
  /** Its place, for messages; undefined for what is typed. */
  readonly where?: string;
}

/** `cancel`: what was begun is thrown away. */
export interface ChatLines extends Disposable {
  /** Whether somebody types them, or they come from a program or a file. */
  readonly kind: "terminal" | "pipe";
  /** `goesOn`: whether the line belongs to a message that was begun. Undefined at the end. */
  next(goesOn: boolean): Promise<Line | "cancel" | undefined>;
  /** Keeps a message for the arrow keys. */
  remember(message: string): Promise<void>;
}

/** An editor needs a terminal that moves its cursor, to type and to show what is typed. */
export function isEditable(): boolean {
  const { stdin, stdout, stderr } = process;
  return !!stdin.isTTY && !!(stderr.isTTY || stdout.isTTY) && Deno.env.get("TERM") !== "dumb";
}

/** `note` says what hinders the history, which hinders nothing else. */
export async function terminalLines(
  { keepsHistory, note }: { keepsHistory: boolean; note: (text: string) => void },
): Promise<ChatLines> {
  const folder = keepsHistory ? stateFolder() : undefined;
  let file = folder && join(folder, "chat_history");
  const failed = (error: unknown) => {
    note(`note: no history is kept: ${file}: ${messageOf(error)}`);
    file = undefined;
    return [];
  };
  const history = file === undefined ? [] : await readHistory(file).catch(failed);
  const editor = openLineEditor({ history, complete: completeCommand });
  const stream = process.stderr.isTTY ? process.stderr : process.stdout;
  return {
    kind: "terminal",
    async next(goesOn) {
      const read = await editor.read(styleText("bold", goesOn ? "… " : "> ", { stream }));
      if (!read) return undefined;
      if (!read.isCancelled) return { text: read.text };
      return read.text === "" && !goesOn ? undefined : "cancel";
    },
    async remember(message) {
      editor.remember(message);
      if (file !== undefined) await addToHistory(file, message).catch(failed);
    },
    [Symbol.dispose]: () => editor[Symbol.dispose](),
  };
}

/** The lines of stdin. Who types them all the same, on a terminal without an editor, gets a prompt. */
export function pipedLines(): ChatLines {
  const lines = splitLines(Deno.stdin.readable);
  return {
    kind: process.stdin.isTTY ? "terminal" : "pipe",
    async next(goesOn) {
      if (process.stdin.isTTY) process.stderr.write(goesOn ? "… " : "> ");
      const { done, value } = await lines.next();
      if (done) return undefined;
      const { bytes, number: line, offset } = value;
      const hint = "convert it to UTF-8, for example with iconv";
      const text = decodeUtf8(bytes, { file: "stdin", line, offset, hint });
      return { text, where: `stdin:${line}` };
    },
    remember: () => Promise.resolve(),
    [Symbol.dispose]: () => {},
  };
}
