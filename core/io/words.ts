/**
 * Words of messages: counts with their nouns, bytes, and paths as a shell takes them.
 *
 * @module
 */

/** "1 token", "1,234 tokens". */
export function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Bytes in powers of 1024: 1536 → "1.5 KiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(
    units.length - 1,
    bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10),
  );
  return `${significant(bytes / 1024 ** power)} ${units[power]}`;
}

/** A quantity in powers of 1000: 5400000 → "5.4 M"; what is too large for their letters in thousands of the last. */
export function formatQuantity(n: number): string {
  const units = ["", " k", " M", " G", " T", " P", " E", " Z", " Y"];
  const power = n < 1 ? 0 : Math.floor(Math.log10(n) / 3), isRound = n / 1000 ** power >= 999.5;
  const unit = Math.min(units.length - 1, isRound ? power + 1 : power), some = n / 1000 ** unit;
  return `${
    some < 1000 ? significant(some) : some.toLocaleString("en-US", { maximumFractionDigits: 0 })
  }${units[unit]}`;
}

/** Three significant digits, without an exponent and without idle zeros. */
export function significant(n: number): string {
  const digits = n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return n.toFixed(digits).replace(/\.0+$|(\.\d*?)0+$/, "$1");
}

/** A path as it can be pasted into a shell: in quotes where it has a space or anything else that a shell reads. */
export function shellWord(path: string): string {
  if (Deno.build.os === "windows") return /^[\w@%+=:,./\\-]+$/.test(path) ? path : `"${path}"`;
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
