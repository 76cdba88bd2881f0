/** RecycledCore's whole export, against what its own script stored and read back. */

import assert from "node:assert/strict";
import { mapTree, type Spec, spec, type Tensor, trace } from "../../../core/graph/mod.ts";
import { importTables, mapCheckpoint, mappedTensors } from "../../../core/import/mod.ts";
import { type ModelTree, namedParams } from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import { packBits } from "../../../core/quant/bits.ts";
import { givenForms, storeAll } from "../../../core/quant/export.ts";
import { restore } from "../../../core/quant/forms.ts";
import { cpuMachine } from "../../machines.ts";
import { recycledCore } from "../../models/recycled.ts";
import { sizesOf } from "../../models/recycled_cases.ts";
import { checkClose, type VectorCase, vectorSet } from "../../vectors.ts";

const exported = vectorSet("quantisation").read("export_roundtrip");
const start = vectorSet("recycled-core").read("model_train");
const model = recycledCore(sizesOf(exported));
const published = { search: "matrix", floor: "reference" } as const;

/** A case's tensors behind a prefix, by our names. */
function ourTensors({ tensors }: VectorCase, prefix: string) {
  const given = new Map(
    [...tensors].filter(([name]) => name.startsWith(prefix))
      .map(([name, tensor]) => [name.slice(prefix.length), tensor] as const),
  );
  const infos = new Map(
    [...given].map(([name, { shape }]) => [name, { shape, dtype: "F32" as const }]),
  );
  const mapping = mapCheckpoint(importTables["recycled-core"], model, infos, prefix);
  return mappedTensors(mapping, {
    where: prefix,
    files: [],
    leftOut: [],
    tensors: infos,
    read: (name) => given.get(name)!.values as Float32Array,
    readInto: (name, into, at) =>
      into.set((given.get(name)!.values as Float32Array).subarray(at, at + into.length)),
    storesBf16: () => false,
    readBf16Into() {},
    [Symbol.dispose]() {},
  });
}

const small = Number(exported.config.keep_float_max_numel);
const forms = givenForms(model, { matrices: "int5", small });
const stored = storeAll(model, ourTensors(start, "param/"), forms, published);

Deno.test("published export: every tensor reads back as the script's does", () => {
  const wanted = ourTensors(exported, "out/dequant/");
  assert.equal(stored.length, wanted.tensors.size);
  for (const one of stored) {
    assert.deepEqual(restore(one), wanted.read(one.name), one.name);
  }
});

Deno.test("published export: the payload has the script's bytes", () => {
  const bytes = stored.map((one) => {
    if (one.form === "f16") return one.halves.byteLength;
    const { bits, levels, scales } = one.levels;
    const shape = bits === 8 ? 0 : 8; // packed levels have it beside them
    return packBits(levels, bits).length + 2 * scales.length + shape;
  });
  assert.equal(bytes.reduce((sum, n) => sum + n, 0), exported.config.payload_total);
});

Deno.test("published export: the model that is read back has the script's logits", async () => {
  const { shape, values: ids } = start.tensors.get("in/ids")!, tokens = spec(shape, "i32");
  const graph = trace((state: Record<string, Tensor>, batch: Record<string, Tensor>) => {
    const { params } = state as unknown as { params: ModelTree<TensorTree> };
    const { hidden } = model.apply(params, { ids: batch.ids, positions: batch.positions });
    return { outputs: { logits: model.logits(params, hidden) } };
  }, {
    state: {
      params: mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype })),
    } as unknown as Record<string, Spec>,
    batch: { ids: tokens, positions: tokens },
  });
  assert.deepEqual(stored.map(({ name }) => name), namedParams(model.params).map((p) => p.path));
  await using machine = await cpuMachine();
  using session = await machine.start(
    graph,
    Object.fromEntries(stored.map((one) => [`params.${one.name}`, restore(one)])),
  );
  const positions = Int32Array.from(ids, (_, i) => i % shape[1]);
  const { logits } = await session.run({ ids: ids as Int32Array, positions });
  const { values } = exported.tensors.get("out/logits")!;
  checkClose("logits", logits, values as Float32Array, 1e-4, 1e-5); // sums in f32 of numbers up to 10
});
