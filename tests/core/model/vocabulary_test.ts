import assert from "node:assert/strict";
import { parse } from "yaml";
import {
  buildModel,
  completeModel,
  grownTable,
  initialValues,
  modelConfig,
  namedParams,
  tokenTables,
  withVocabulary,
} from "../../../core/model/mod.ts";
import { root } from "../../support.ts";
import { llama, vocab } from "./tiny.ts";

const outer = { vocab_size: vocab, max_position_embeddings: 16 };
const complete = (config: unknown) => completeModel(modelConfig.parse(config), outer);

Deno.test("vocabulary: the tables with a row for each token are found by how they grow", () => {
  assert.deepEqual([...tokenTables(complete(llama))], ["input.embedding"]);
  const untied = complete({ ...llama, tie_word_embeddings: false });
  assert.deepEqual([...tokenTables(untied)], ["input.embedding", "head.weight"]);
});

Deno.test("vocabulary: every config's tables grow by rows, and nothing else does", async () => {
  let tables = 0;
  for await (const { name } of Deno.readDir(`${root}configs`)) {
    if (!/-tiny\.yaml$/.test(name)) continue;
    const { model } = parse(await Deno.readTextFile(`${root}configs/${name}`), {
      merge: true,
    });
    const config = completeModel(modelConfig.parse(model), {
      ...outer,
      max_position_embeddings: 256,
    });
    const found = tokenTables(config), grown = withVocabulary(config, config.vocab_size + 3);
    const after = namedParams(buildModel(grown).params);
    namedParams(buildModel(config).params).forEach(({ path, shape }, i) => {
      const wanted = found.has(path) ? [shape[0] + 3, ...shape.slice(1)] : shape;
      assert.deepEqual(after[i].shape, wanted, `${name} ${path}`);
    });
    tables += found.size;
  }
  assert.ok(tables > 4);
});

Deno.test("vocabulary: known rows stay, new ones are the mean of those that were learned", () => {
  const old = Float32Array.of(1, 2, 3, 6, 8, 4, 100, 100); // four rows, the last was never learned
  const grown = grownTable({ shape: [6, 2] }, old, { known: 3, fresh: [3, 4] });
  assert.deepEqual([...grown], [1, 2, 3, 6, 8, 4, 4, 4, 4, 4, 4, 4]);
});

Deno.test("vocabulary: rows that are there already serve; a config does not shrink", () => {
  const config = complete(llama);
  assert.equal(withVocabulary(config, 5).vocab_size, vocab);
  assert.equal(withVocabulary(config, vocab + 2).vocab_size, vocab + 2);
  const [param] = namedParams(buildModel(config).params);
  const old = initialValues(param, 1), fresh = [vocab - 1];
  const grown = grownTable(param, old, { known: vocab - 1, fresh });
  assert.deepEqual(grown.subarray(0, -8), old.subarray(0, -8));
  const column = Array.from({ length: vocab - 1 }, (_, row) => old[row * 8]);
  const mean = column.reduce((sum, x) => sum + x) / column.length;
  assert.equal(grown.at(-8), Math.fround(mean));
});
