/**
 * `deno task soak-files [FILES [SEED]]`: so many damaged files of each format, 10,000 unless said, are opened and read. Each
 * must load or be refused by a clear error, in little time and memory. Takes minutes; the tests do the same with few.
 *
 * @module
 */
import { damageMany } from "./damaging.ts";

const [files = 10_000, seed = 1] = Deno.args.map(Number);
const dir = await Deno.makeTempDir({ prefix: "quern-damaged-" }); // kept where a file is at fault
const began = performance.now();
await damageMany(dir, { files, seed, say: console.log });
await Deno.remove(dir, { recursive: true });
const status = await Deno.readTextFile("/proc/self/status").catch(() => "");
const peak = status.match(/VmHWM:\s*(\d+) kB/)?.[1];
console.log(
  `${files} files each (seed ${seed}) in ${((performance.now() - began) / 1000).toFixed(0)} s` +
    (peak === undefined ? "" : `, peak memory ${(Number(peak) / 1024).toFixed(0)} MiB`),
);
