import assert from "node:assert/strict";
import { interpret, placeholder, spec, type Tensor } from "../../../core/graph/mod.ts";
import {
  averagesConfig,
  averagesToMeasure,
  averageToUse,
  evenClock,
  moveAverages,
  optimizerConfig,
  planAverages,
} from "../../../core/optim/mod.ts";
import { readJson } from "../../vectors.ts";

const recorded = readJson<{
  ema: { decay: number; weights: number[]; shadow: number[] };
  swa: { snapshots: number[]; mean: number };
  final_choice: { cases: { swa_enabled: boolean; snapshots: number; final: "ema" | "swa" }[] };
}>("spec/averaging.json");

/** One number's averages, moved to the given weights one after another. */
function averagesOf(first: readonly [number, number], moves: readonly (readonly number[])[]) {
  const values = new Map<Tensor, ArrayLike<number>>();
  const leaf = (shape: number[], numbers: readonly number[]) => {
    const tensor = placeholder(spec(shape), "x", "upload");
    values.set(tensor, numbers);
    return tensor;
  };
  let averages: ReturnType<typeof moveAverages> = {
    ema: { p: leaf([1], [first[0]]) },
    swa: { p: leaf([1], [first[1]]) },
  };
  return moves.map(([param, ...weights]) => {
    averages = moveAverages(averages, { p: leaf([1], [param]) }, leaf([2], weights));
    const [ema, swa] = interpret([averages.ema.p, averages.swa.p], values, { precision: "f64" });
    return { ema: ema[0], swa: swa[0] };
  });
}

const near = (found: number, expected: number) =>
  assert.ok(Math.abs(found - expected) < 1e-12, `${found} is not ${expected}`);

Deno.test("averages: the exponential one starts with the first weights", () => {
  const { decay, weights: [first, ...rest], shadow } = recorded.ema;
  averagesOf([first, 0], rest.map((x) => [x, 1 - decay, 0]))
    .forEach(({ ema }, i) => near(ema, shadow[i + 1]));
});

Deno.test("averages: the mean of snapshots is theirs, whatever stood there before", () => {
  const { snapshots, mean } = recorded.swa;
  const moves = snapshots.flatMap((x, i) => [[99, 0, 0], [x, 0, 1 / (i + 1)]]);
  near(averagesOf([0, 17], moves).at(-1)!.swa, mean);
});

Deno.test("averages: snapshots are taken every so many updates at a low rate, and counted alike after a resume", () => {
  const optimizer = optimizerConfig.parse({
    kind: "adamw",
    learning_rate: { kind: "warmup_stable_decay", peak: 0.02, decay: 100 },
  });
  const plan = planAverages(
    averagesConfig.parse({ ema: { decay: 0.9 }, swa: { every: 7, below: 0.2 } }),
    optimizer,
    evenClock(300),
  );
  // the rate of update s is (300 − s) / 100 of its peak: below 0.2 from s = 281 on
  const taken = Array.from({ length: 300 }, (_, step) => step)
    .filter((step) => plan.weightsAt(step)[1] > 0);
  assert.deepEqual(taken, [286, 293]);
  assert.deepEqual(taken.map((step) => plan.weightsAt(step)[1]), [1, 1 / 2]);
  assert.deepEqual([286, 287, 293, 294].map(plan.snapshots), [0, 1, 1, 2]);
  near(plan.weightsAt(5)[0], 0.1);
});

Deno.test("averages: two snapshots stand for the run, fewer leave it to the exponential average", () => {
  for (const { swa_enabled, snapshots, final } of recorded.final_choice.cases) {
    const config = averagesConfig.parse({
      ema: { decay: 0.997 },
      ...(swa_enabled ? { swa: { every: 50 } } : {}),
    });
    assert.equal(averageToUse(config, snapshots), final);
    const measured = averagesToMeasure(config, snapshots);
    assert.equal(measured.at(-1), final);
    assert.deepEqual(measured.toSorted(), config.swa && snapshots > 0 ? ["ema", "swa"] : ["ema"]);
  }
  assert.equal(averageToUse(averagesConfig.parse({}), 0), undefined);
});
