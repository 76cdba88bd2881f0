/**
 * What was typed before, in a file of the user's: a JSON string a line, the newest last.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { exists } from "../../core/io/atomic.ts";
import { writeFileAtomic } from "../../core/io/atomic.ts";

/** How many are kept. The file is cut when it has grown to twice as many. */
const most = 1000;

/** Where programs keep what is neither config nor data: `$XDG_STATE_HOME`, or what the system has for it. */
export function stateFolder(): string | undefined {
  const xdg = Deno.env.get("XDG_STATE_HOME");
  if (xdg) return join(xdg, "quern");
  if (Deno.build.os === "windows") {
    const local = Deno.env.get("LOCALAPPDATA");
    return local && join(local, "quern");
  }
  const home = Deno.env.get("HOME");
  return home ? join(home, ".local", "state", "quern") : undefined;
}

/** The entries of a file, the newest first; none where there is no file. Lines that are no entries are left out. */
export async function readHistory(file: string): Promise<string[]> {
  if (!await exists(file)) return [];
  const entries = (await Deno.readTextFile(file)).split("\n").flatMap((line) => {
    try {
      const entry: unknown = JSON.parse(line);
      return typeof entry === "string" ? [entry] : [];
    } catch {
      return []; // cut off by a crash
    }
  });
  if (entries.length > 2 * most) {
    await writeFileAtomic(file, entries.slice(-most).map(lineOf).join(""));
    await Deno.chmod?.(file, ownersAlone);
  }
  return entries.slice(-most).reverse();
}

/** Adds an entry; several processes may do so at once. */
export async function addToHistory(file: string, entry: string): Promise<void> {
  await Deno.mkdir(dirname(file), { recursive: true });
  await Deno.writeTextFile(file, lineOf(entry), { append: true, mode: ownersAlone });
}

/** People say what is nobody else's business. */
const ownersAlone = 0o600;

const lineOf = (entry: string) => `${JSON.stringify(entry)}\n`;
