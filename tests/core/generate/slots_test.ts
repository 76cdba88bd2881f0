import assert from "node:assert/strict";
import { openDevice } from "../../../core/device/mod.ts";
import { Slots } from "../../../core/generate/slots.ts";
import { normals, sizeOf } from "../../../core/graph/mod.ts";
import type { Tensors } from "../../../core/io/tensors.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  namedParams,
} from "../../../core/model/mod.ts";

const mlp = { kind: "swiglu", intermediate_size: 12 };
const attention = { mixer: { kind: "attention", num_attention_heads: 2 }, mlp };
const delta = {
  mixer: { kind: "gated_delta", num_key_heads: 2, key_head_dim: 4, value_head_dim: 4 },
  mlp,
};

/** Weights that are only drawn. */
function drawn(model: Model): Tensors {
  const params = namedParams(model.params);
  return {
    path: "drawn",
    tensors: new Map(params.map(({ path, shape }) => [path, { dtype: "F32", shape }])),
    read: (name: string) => {
      const { shape } = params.find(({ path }) => path === name)!;
      return normals(1, name, sizeOf(shape)).map((x) => 0.4 * x);
    },
  } as unknown as Tensors;
}

const beginning = Array.from({ length: 40 }, (_, t) => (7 * t + 3) % 20);
const prompts = [[1, 2, 3], [4], [5, 6, 7, 8], [9, 9]].map((rest) => [...beginning, ...rest]);

for (const [name, blocks] of Object.entries({ attention: [attention], sums: [delta, attention] })) {
  Deno.test(`slots: what prompts begin with is read once, and changes no token (${name})`, async () => {
    const sizes = { vocab_size: 20, max_position_embeddings: 64 };
    const config = modelConfig.parse({ hidden_size: 8, blocks });
    const model = buildModel(completeModel(config, sizes));
    const source = {
      model,
      file: drawn(model),
      point: { scalars: new Float32Array(), seed: 0, step: 0 },
    };
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const layout = { batch: 2, capacity: 64, weights: "f32" } as const;
    /** Each prompt in a row that the one before it has left. */
    const continued = async (shared: number, isAlone: boolean) => {
      const found: number[][] = [];
      let read = 0, slots: Slots | undefined;
      for (const [i, prompt] of prompts.entries()) {
        if (isAlone) slots?.[Symbol.dispose]();
        if (isAlone || !slots) slots = await Slots.create(source, device, layout, 4);
        const before = slots.read;
        await slots.put(i % 2, prompt, shared);
        const steps = [...await slots.run(4), ...await slots.run(2)];
        found.push(steps.map((tokens) => tokens[i % 2]));
        read += slots.read - before;
      }
      slots?.[Symbol.dispose]();
      return { found, read };
    };
    const all = prompts.reduce((sum, { length }) => sum + length - 1, 0);
    const alone = await continued(0, true), together = await continued(40, false);
    assert.deepEqual(together.found, alone.found);
    assert.equal(alone.read, all);
    assert.equal(together.read, all - 40 * (prompts.length - 1));
    const distinct = new Set(together.found.map(String));
    assert.ok(distinct.size > 1, "prompts with other ends go on otherwise");
  });
}
