/**
 * A line that is typed on a terminal, with history and completion by node:readline. A line feed is
 * typed with Alt-Enter; text that is pasted keeps its own.
 *
 * @module
 */
import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import { Transform } from "node:stream";
import { isPastedTab, pasteFilter } from "./paste.ts";

/** `cancelled`: by Ctrl-C, with what was typed so far. */
export interface TypedLine {
  readonly text: string;
  readonly isCancelled: boolean;
}

export interface LineEditor extends Disposable {
  /** The next line; undefined at the end, as by Ctrl-D on an empty one. */
  read(prompt: string): Promise<TypedLine | undefined>;
  /** Adds what comes back by the arrow keys. */
  remember(entry: string): void;
}

export interface EditorOptions {
  /** The newest first. */
  readonly history: readonly string[];
  /** What a line may be completed to. */
  readonly complete: (line: string) => string[];
}

/** Asks the terminal to mark what is pasted, or no longer to. */
const marksPastes = "\x1b[?2004h", marksNothing = "\x1b[?2004l";

/**
 * Takes stdin, and shows what is typed on stderr or, if that is no terminal, on stdout. Between lines
 * the terminal is as it was: Ctrl-C is a signal then, and keys wait for the next line.
 */
export function openLineEditor({ history, complete }: EditorOptions): LineEditor {
  const { stdin } = process, output = process.stderr.isTTY ? process.stderr : process.stdout;
  // readline asks its input for what only the terminal can do
  const input = Object.assign(new Transform({ transform: pasteFilter() }), {
    setRawMode: (isRaw: boolean) => void stdin.setRawMode(isRaw),
  });
  stdin.pipe(input);
  const readline = createInterface({
    input,
    output,
    terminal: true,
    completer: (line: string) => [complete(line), line],
  });
  let entries = [...history];
  const typed: (TypedLine | undefined)[] = []; // several lines may come at once
  let wake = () => {};
  const take = (line: TypedLine | undefined) => {
    typed.push(line);
    wake();
  };
  readline.on("line", (text) => take({ text, isCancelled: false }));
  readline.on("SIGINT", () => {
    const { line } = readline;
    edit(readline, "", 0);
    output.write("\r\n");
    take({ text: line, isCancelled: true });
  });
  readline.on("close", () => take(undefined));
  input.on("keypress", (_, key) => {
    const isLineFeed = key?.meta && (key.name === "return" || key.name === "enter");
    const text = isLineFeed ? "\n" : isPastedTab(key) ? "\t" : undefined;
    if (text === undefined) return;
    const { line, cursor } = readline;
    edit(readline, line.slice(0, cursor) + text + line.slice(cursor), cursor + text.length);
    readline.prompt(true);
  });
  stdin.setRawMode(false);
  stdin.pause();
  return {
    async read(prompt) {
      if (typed.length > 0) return typed.shift();
      // readline keeps lines, of which a message may be several
      Object.assign(readline, { history: [...entries] });
      stdin.setRawMode(true);
      output.write(marksPastes);
      readline.setPrompt(prompt);
      readline.prompt(); // takes up reading, too
      stdin.resume();
      await new Promise<void>((resolve) => wake = resolve);
      stdin.setRawMode(false);
      stdin.pause();
      output.write(typed[0] ? marksNothing : `${marksNothing}\n`); // what comes next has a line of its own
      return typed.shift();
    },
    remember(entry) {
      entries = [entry, ...entries.filter((other) => other !== entry)];
    },
    [Symbol.dispose]() {
      readline.close();
      stdin.unpipe(input);
      stdin.setRawMode(false);
    },
  };
}

function edit(readline: Interface, line: string, cursor: number): void {
  Object.assign(readline, { line, cursor });
}
