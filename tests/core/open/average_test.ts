import assert from "node:assert/strict";
import { join } from "node:path";
import { averageModels, openAny } from "../../../core/open/mod.ts";
import { byteTokenizer, characterTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { configAround, writeRandomRun } from "../export/random_run.ts";
import { llamaShape, plainModelOf, writeForeign } from "./foreign.ts";

const session = { version: "test", command: ["test"] };
const configOf = (seed: number, model: object = llamaShape) => configAround(model, { seed });

Deno.test("average: weights are means in double precision, at the latest step; a Hugging Face folder may be one", async () => {
  await withTempDir(async (dir) => {
    const [a, hf, out, even] = ["a", "hf", "out", "even"].map((name) => join(dir, name));
    await writeRandomRun(a, configOf(1), byteTokenizer(), 7);
    await writeForeign(hf, plainModelOf(llamaShape));
    const averaged = await averageModels({ from: [a, hf], weights: [3, 1], out, session });
    assert.deepEqual(averaged.from.map(({ part }) => part), [0.75, 0.25]);
    assert.equal(averaged.step, 7);
    await averageModels({ from: [a, hf, a], out: even, session });
    using first = await openAny(a);
    using second = await openAny(hf);
    using mean = await openAny(out);
    using third = await openAny(even);
    assert.deepEqual([mean.step, mean.config?.seed, mean.beginning], [7, 1, 256]);
    for (const path of first.file.tensors.keys()) {
      const [x, y, z, w] = [first, second, mean, third]
        .map(({ file }) => file.read(path) as Float32Array);
      assert.deepEqual(z, x.map((_, i) => (3 * x[i] + y[i]) / 4), path);
      assert.deepEqual(w, x.map((_, i) => (x[i] + y[i] + x[i]) / 3), path);
    }
  });
});

Deno.test("average: other models, other tokenizers and wrong weights are refused, and nothing is written", async () => {
  await withTempDir(async (dir) => {
    const run = (name: string) => join(dir, name), out = run("out");
    await writeRandomRun(run("a"), configOf(1), byteTokenizer(), 7);
    await writeRandomRun(
      run("wide"),
      configOf(1, { ...llamaShape, intermediate_size: 32 }),
      byteTokenizer(),
      7,
    );
    await writeRandomRun(run("other"), configOf(1), characterTokenizer("ab"), 7);
    const fault = (names: string[], message: RegExp, weights?: number[]) =>
      assert.rejects(averageModels({ from: names.map(run), weights, out, session }), { message });
    await fault(["a", "wide"], /layers\.0\.mlp\.gate is \[32,16\], in .* \[24,16\]/);
    await fault(["a", "other"], /its tokenizer is not that of/);
    await fault(["a"], /two or more/);
    await fault(["a", "a"], /3 weights for 2 models/, [1, 2, 3]);
    await fault(["a", "a"], /sum to 0/, [0, 0]);
    await assert.rejects(Deno.stat(out), Deno.errors.NotFound);
  });
});
