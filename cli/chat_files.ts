/**
 * Conversations in files: what a chat was is kept as `quern sft` reads it.
 *
 * @module
 */
import { join } from "node:path";
import { type ConversationAttempt, conversationsOf } from "../core/data/chat/mod.ts";
import { exists, writeFileAtomic } from "../core/io/atomic.ts";
import { atPath, exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import type { Message } from "../core/text/chat/mod.ts";

/** Adds a conversation as a line at a file's end, and returns that line's number. */
export async function saveConversation(
  path: string,
  messages: readonly Message[],
): Promise<number> {
  const file = withHome(path), before = await exists(file) ? await readText(file) : "";
  const whole = before === "" || before.endsWith("\n") ? before : `${before}\n`;
  const told = messages.map(({ role, content, extra }) => ({ role, content, ...extra }));
  await writeFileAtomic(file, `${whole}${JSON.stringify({ messages: told })}\n`);
  return whole.split("\n").length;
}

/** The last conversation of a file in any shape that `quern sft` reads, or its third: `FILE:3`. */
export async function loadConversation(path: string): Promise<readonly Message[]> {
  const [, named = "", number] = path.match(/^(.*):(\d+)$/s) ?? [];
  const isNumbered = number !== undefined && !await exists(withHome(path));
  const file = isNumbered ? named : path, wanted = isNumbered ? Number(number) : Infinity;
  let found: ConversationAttempt | undefined, count = 0;
  for await (const attempt of conversationsOf([withHome(file)])) {
    found = attempt;
    if (++count === wanted) break;
  }
  if (found && (count === wanted || !isNumbered)) return found().messages;
  throw new UserError(
    isNumbered ? `there is no conversation ${number}` : "there is no conversation here",
    {
      where: file,
      exitCode: exitCodes.failed,
      ...(isNumbered && { hint: `it has ${plural(count, "conversation")}` }),
    },
  );
}

async function readText(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    throw atPath(error, file);
  }
}

/** No shell has read a path that was typed in a chat. */
function withHome(path: string): string {
  const home = Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE");
  return home !== undefined && /^~[\\/]/.test(path) ? join(home, path.slice(2)) : path;
}
