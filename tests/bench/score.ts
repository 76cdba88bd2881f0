/**
 * Scoring with what prompts share computed once, beside row by row: of choices behind a question, and of those behind
 * examples, too. On the cpu device with one thread. `deno run -A tests/bench/score.ts`
 */

import { openDevice } from "../../core/device/mod.ts";
import type { TokenRow } from "../../core/eval/score/rows.ts";
import { Scorer } from "../../core/eval/score/scorer.ts";
import { loadConfig } from "../../core/io/config.ts";
import { initialValues, namedParams } from "../../core/model/mod.ts";
import { modelOf, pretrainConfig } from "../../core/train/mod.ts";
import { opened } from "../core/eval/toy.ts";
import { root } from "../support.ts";
import { interleave } from "./interleave.ts";

const vocab = 2048, documents = 24;
const some = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => (7919 * (i + 1) * (seed + 3) + 31 * i * i) % vocab);

/** Four answers of 3 to 12 tokens behind each question of 40 to 70, and that behind examples. */
function families(examples: number): TokenRow[][] {
  const shots = some(examples, 1);
  return Array.from({ length: documents }, (_, d) => {
    const context = [...shots, ...some(40 + d % 31, d + 2)];
    return [3, 5, 8, 12].map((length, c) => ({
      ids: [...context, ...some(length, 100 * d + c)],
      scored: length,
    }));
  });
}

for (const name of ["llama-5m", "neollm-tiny"]) {
  const config = await loadConfig(pretrainConfig, `${root}configs/${name}.yaml`, [
    "sequence_length=512",
  ]);
  const model = modelOf(config, vocab);
  const params = new Map(namedParams(model.params).map((param) => [param.path, param]));
  const source = opened(model, (path) => initialValues(params.get(path)!, 1));
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  using shared = Scorer.create(source, device),
    alone = Scorer.create(source, device, {
      sharing: "off",
    });
  for (const examples of [0, 240]) {
    const rows = families(examples);
    const tokens = rows.flat().reduce((sum, { ids }) => sum + ids.length - 1, 0);
    const timeOf = async (scorer: Scorer) => {
      const start = performance.now();
      for await (const _ of scorer.score({ families: rows }));
      return performance.now() - start;
    };
    const found = await interleave({ shared: () => timeOf(shared), alone: () => timeOf(alone) }, {
      rounds: 3,
    });
    const rate = (ms: number) => Math.round(1000 * tokens / ms).toLocaleString("en-US");
    const { shared: once, alone: each } = found;
    if (!once || !each) throw new Error("nothing was measured");
    console.log(
      `${name}: four choices behind ${
        examples === 0 ? "a question" : "examples and a question"
      }, ` +
        `${rate(once.best)} tokens/s shared, ${rate(each.best)} row by row: ` +
        `${(each.best / once.best).toFixed(2)} times`,
    );
  }
}
