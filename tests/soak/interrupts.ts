/**
 * `deno task soak [KILLS [SEED]]`: a run is killed at random moments, 100 times unless said, and must
 * come to the bits of one that was not. Takes minutes; the tests do the same with few kills.
 *
 * @module
 */
import { withTempDir } from "../support.ts";
import { killOften } from "./killing.ts";

const [kills = 100, seed = 1] = Deno.args.map(Number);
const began = performance.now();
const say = (line: string) => console.error(line);
const { steps, inSaves, atPointers, beforeFirst, weights } = await withTempDir((dir) =>
  killOften(dir, { kills, seed, say })
);
console.log([
  `${kills} kills (seed ${seed}) of a run of ${steps} steps, each gone on from:`,
  `  ${inSaves} within a save, ${atPointers} at its pointer, ${beforeFirst} before the first checkpoint`,
  `  metrics, samples, checkpoints and pointers equal those of the run that nothing disturbed`,
  `  weights sha256 ${weights}`,
  `  ${((performance.now() - began) / 1000).toFixed(0)} s`,
].join("\n"));
if (kills >= 20 && inSaves < kills / 20) {
  console.error("too few kills met a save to mean anything");
  Deno.exit(1);
}
