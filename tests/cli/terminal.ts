/** Commands in a pseudo terminal, by the program `script`. */

import { shellWord } from "../../core/io/words.ts";
import { root } from "../support.ts";

export interface TerminalOptions {
  readonly cwd: string;
  readonly columns: number;
  readonly env?: Record<string, string>;
}

const command = [Deno.execPath(), "run", "-A", `--config=${root}deno.json`, `${root}cli/main.ts`]
  .map(shellWord).join(" ");

/** Runs a line of sh; `quern` in it is ours. */
export async function sh(line: string, cwd: string, env: Record<string, string> = {}) {
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `quern() { ${command} "$@"; }; ${line}`],
    cwd,
    env,
  }).output();
  const decoder = new TextDecoder();
  return { stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

export const hasScript = Deno.build.os === "linux" &&
  (await new Deno.Command("sh", { args: ["-c", "command -v script"], stdout: "null" }).output())
    .success;

/** Whatever the tests themselves run in. */
const xterm = { TERM: "xterm", NO_COLOR: "", COLUMNS: "" };

/** What a terminal of so many columns is sent; that tests run in a CI, or within tmux, is not told. */
export async function onTerminal(
  line: string,
  { cwd, columns, env = {} }: TerminalOptions,
) {
  await writeLine(line, { cwd, columns });
  const { stdout } = await sh(`script -qec 'sh line.sh' /dev/null`, cwd, {
    ...xterm,
    ...env,
  });
  return stdout.replaceAll("\r\n", "\n");
}

async function writeLine(line: string, { cwd, columns }: TerminalOptions): Promise<void> {
  const told = "unset CI TMUX FORCE_COLOR NODE_DISABLE_COLORS COLORTERM";
  const inner = `${told}; quern() { ${command} "$@"; }; stty cols ${columns}; ${line}`;
  await Deno.writeTextFile(`${cwd}/line.sh`, inner);
}

/** Somebody who types what a screen asks for. */
export interface Typist {
  /** Waits until the screen shows this, behind what was waited for before, and returns what it showed up to its end. */
  see(pattern: RegExp): Promise<string>;
  type(keys: string): Promise<void>;
  /** Waits for the end, and returns what the screen showed since. */
  end(): Promise<string>;
}

/** Runs a line on a terminal whose keys are typed as the screen is seen. */
export async function typeOnTerminal(
  line: string,
  options: TerminalOptions,
  use: (typist: Typist) => Promise<void>,
): Promise<void> {
  await writeLine(line, options);
  const child = new Deno.Command("script", {
    args: ["-qec", "sh line.sh", "/dev/null"],
    cwd: options.cwd,
    env: { ...xterm, ...options.env },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const keys = child.stdin.getWriter();
  let shown = "", seen = 0, isOver = false, wake = () => {};
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const piece of child.stdout) {
      shown += decoder.decode(piece, { stream: true });
      wake();
    }
    isOver = true;
    wake();
  })();
  const more = () => new Promise<void>((resolve) => wake = resolve);
  const rest = (to = shown.length) => {
    const text = shown.slice(seen, to).replaceAll("\r\n", "\n");
    seen = to;
    return text;
  };
  const alarm = setTimeout(() => child.kill("SIGKILL"), 30_000);
  try {
    await use({
      async see(pattern) {
        for (;;) {
          const match = pattern.exec(shown.slice(seen));
          if (match) return rest(seen + match.index + match[0].length);
          if (isOver) throw new Error(`never seen: ${pattern} in ${JSON.stringify(rest())}`);
          await more();
        }
      },
      type: (text) => keys.write(new TextEncoder().encode(text)),
      async end() {
        while (!isOver) await more();
        return rest();
      },
    });
  } finally {
    clearTimeout(alarm);
    if (!isOver) child.kill("SIGKILL");
    await keys.close().catch(() => {}); // the reader may be gone
    await reading;
    await child.status;
  }
}
