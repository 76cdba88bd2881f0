/**
 * Numbers as people read them.
 *
 * @module
 */
export { formatBytes, formatQuantity } from "../../core/io/words.ts";

/** 1234567 → "1,234,567". */
export function formatCount(n: number): string {
  return n.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** Seconds: "0.42 s", "12.3 s", "2 min 05 s", "1 h 02 min". */
export function formatDuration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  const [small, large] = total < 3600
    ? [`${two(total % 60)} s`, `${Math.floor(total / 60)} min`]
    : [`${two(Math.floor(total / 60) % 60)} min`, `${Math.floor(total / 3600)} h`];
  return `${large} ${small}`;
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}
