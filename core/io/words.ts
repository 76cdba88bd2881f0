/**
 * Words of messages: counts with their nouns, and paths as a shell takes them.
 *
 * @module
 */

/** "1 token", "1,234 tokens". */
export function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** A path as it can be pasted into a shell: in quotes where it has a space or anything else that a shell reads. */
export function shellWord(path: string): string {
  if (Deno.build.os === "windows") return /^[\w@%+=:,./\\-]+$/.test(path) ? path : `"${path}"`;
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
