import assert from "node:assert/strict";
import {
  mapTree,
  type Numbers,
  ShapeError,
  sizeOf,
  type Spec,
  type Tensor,
} from "../../../core/graph/mod.ts";
import {
  buildModel,
  completeModel,
  countAll,
  countByPart,
  countByRole,
  initialValues,
  modelConfig,
  namedParams,
} from "../../../core/model/mod.ts";
import { parseConfig } from "../../../core/io/config.ts";
import {
  llama,
  pathsOf,
  rowsOf,
  tinyModel,
  toldModel,
  Values,
  variants,
  vocab,
  weights,
} from "./tiny.ts";

const ids = [[3, 1, 4, 1, 5, 9, 2, 6, 5], [2, 7, 1, 8, 2, 8, 1, 8, 2]];

for (const [name, config] of Object.entries(variants)) {
  Deno.test(`model: apply equals prefill and steps, in any chunks: ${name}`, () => {
    const values = new Values(), model = toldModel(tinyModel(config), values);
    const params = weights(model, values);
    const whole = model.logits(params, model.apply(params, rowsOf(values, ids)).hidden);
    for (const chunk of [1, 3, 7]) {
      let state = values.tree(
        model.state({ batch: 2, capacity: 10 }),
        ({ shape }) => new Float32Array(sizeOf(shape)).fill(NaN), // what was there before must not matter
      ) as ReturnType<typeof model.step>["state"];
      const parts: Tensor[] = [];
      for (let at = 0; at < ids[0].length; at += chunk) {
        const part = values.integers(ids.map((row) => row.slice(at, at + chunk)));
        const start = values.vector([at, at]);
        const stepped = model.step(params, { ids: part, start }, state);
        parts.push(model.logits(params, stepped.hidden));
        state = stepped.state;
      }
      const [expected, ...found] = values.run([whole, ...parts]);
      found.forEach((logits, i) => {
        const time = parts[i].shape[1];
        for (let b = 0; b < 2; b++) {
          for (let t = 0; t < time; t++) {
            for (let j = 0; j < vocab; j++) {
              const want = expected[(b * ids[0].length + i * chunk + t) * vocab + j];
              const got = logits[(b * time + t) * vocab + j];
              assert.ok(
                Math.abs(want - got) < 1e-5,
                `chunks of ${chunk}, row ${b}, token ${i * chunk + t}`,
              );
            }
          }
        }
      });
    }
  });
}

for (const [name, config] of Object.entries(variants)) {
  Deno.test(`model: rows of a batch may stand at different lengths: ${name}`, () => {
    const values = new Values(), model = toldModel(tinyModel(config), values);
    const params = weights(model, values);
    const texts = [[3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8], [6, 5]], done = [0, 0, 0];
    let state = values.tree(
      model.state({ batch: 3, capacity: 10 }),
      ({ shape }) => new Float32Array(sizeOf(shape)).fill(NaN),
    ) as ReturnType<typeof model.step>["state"];
    const found: Tensor[] = [];
    // how many tokens of each row are its own, in calls of up to five; the rest of a call is padding
    for (const lengths of [[5, 2, 1], [1, 0, 0], [1, 2, 1]]) {
      const time = Math.max(...lengths);
      const stepped = model.step(params, {
        ids: values.integers(
          texts.map((text, b) =>
            Array.from({ length: time }, (_, t) => t < lengths[b] ? text[done[b] + t] : 0)
          ),
        ),
        start: values.vector(done),
        lengths: values.vector(lengths),
      }, state);
      lengths.forEach((length, b) => done[b] += length);
      found.push(model.logits(params, stepped.hidden));
      state = stepped.state;
    }
    const alone = texts.map((text) =>
      model.logits(params, model.apply(params, rowsOf(values, [text])).hidden)
    );
    const [first, , last, ...rows] = values.run([...found, ...alone]);
    const compare = (row: number, t: number, logits: Numbers, at: number) => {
      for (let j = 0; j < vocab; j++) {
        const want = rows[row][t * vocab + j], got = logits[at * vocab + j];
        assert.ok(Math.abs(want - got) < 1e-5, `row ${row}, token ${t}: ${got} is not ${want}`);
      }
    };
    [4, 1, 0].forEach((t, row) => compare(row, t, first, row * 5 + t));
    texts.forEach(({ length }, row) =>
      compare(row, length - 1, last, row * 2 + (row === 1 ? 1 : 0))
    );
  });

  Deno.test(`model: a packed row's second document does not see the first: ${name}`, () => {
    const values = new Values(), model = toldModel(tinyModel(config), values);
    const params = weights(model, values);
    const positions = values.integers([[0, 1, 2, 0, 1, 2]]);
    const segment_ids = values.integers([[1, 1, 1, 2, 2, 2]]);
    const logits = [[3, 1, 4, 5, 9, 2], [8, 8, 8, 5, 9, 2]].map((row) =>
      model.logits(
        params,
        model.apply(params, { ids: values.integers([row]), positions, segment_ids }).hidden,
      )
    );
    const alone = model.logits(params, model.apply(params, rowsOf(values, [[5, 9, 2]])).hidden);
    const [a, b, c] = values.run([...logits, alone]);
    assert.deepEqual(a.slice(3 * vocab), b.slice(3 * vocab));
    assert.notDeepEqual(a.slice(0, vocab), b.slice(0, vocab));
    c.forEach((x, i) => assert.ok(Math.abs(x - a[3 * vocab + i]) < 1e-5));
  });
}

Deno.test("model: the loss is a sum over counted targets", () => {
  const model = tinyModel(llama), values = new Values(), params = weights(model, values);
  const rows = rowsOf(values, [[3, 1, 4, 1]], [[1, -100, 1, 5]]);
  const { sum, losses } = model.loss(params, rows);
  const logits = model.logits(params, model.apply(params, rows).hidden);
  const [total, each, z] = values.run([sum, losses, logits]);
  const expected = [1, -100, 1, 5].map((target, t) => {
    const row = Array.from(z.subarray(t * vocab, (t + 1) * vocab));
    const lse = Math.log(row.reduce((s, x) => s + Math.exp(x), 0));
    return target < 0 ? 0 : lse - row[target];
  });
  expected.forEach((loss, t) => assert.ok(Math.abs(loss - each[t]) < 1e-5));
  assert.ok(Math.abs(total[0] - expected.reduce((a, b) => a + b)) < 1e-5);
});

Deno.test("model: a wrong shape is refused with the weight's place and both shapes", () => {
  const model = tinyModel(llama), values = new Values();
  const params = values.tree<Parameters<typeof model.apply>[0]>(
    mapTree(
      model.params,
      (spec: Spec, path) => path === "layers.1.mlp.up" ? { ...spec, shape: [12, 7] } : spec,
    ),
    () => [],
  );
  assert.throws(() => model.apply(params, rowsOf(values, [[1, 2]])), (error) => {
    assert.ok(error instanceof ShapeError);
    assert.match(error.message, /inner sizes 8 and 7 .*\[2, 8\] \[12, 7\].* at layers\.1\.mlp\.up/);
    return true;
  });
});

Deno.test("model: sizes that do not fit are said at the config's place", () => {
  const parse = (text: string) => parseConfig(modelConfig, { text, file: "m.yaml" });
  const flat =
    "hidden_size: 10\nnum_hidden_layers: 1\nnum_attention_heads: 4\nintermediate_size: 8\n";
  assert.throws(() => parse(flat), /4 heads do not divide hidden_size 10.*layers\.0\.mixer/);
  assert.throws(() => parse(flat.replace("hidden_size", "hiden_size")), /hiden_size.*hidden_size/);
  const blocks = "hidden_size: 8\nblocks:\n  - mixer: { kind: attention, num_attention_heads: 3, " +
    "num_key_value_heads: 2 }\n    mlp: { kind: swiglu, intermediate_size: 8 }\n";
  assert.throws(() => parse(blocks), /num_key_value_heads: 3 query heads cannot share 2 key heads/);
  const centred = "head_dim: 4, qk_norm_weight: false, qk_norm_zero_centered: true";
  assert.throws(
    () => parse(blocks.replace("num_key_value_heads: 2", centred)),
    /qk_norm_zero_centered: there is no weight/,
  );
  const norm = "norm: { kind: rms_norm, weight: false, zero_centered: true }\n";
  assert.throws(() => parse(blocks + norm), /norm.zero_centered: there is no weight/);
  assert.throws(
    () => parse(blocks.replace("num_key_value_heads: 2", "width: 2")),
    /unknown key .*width/,
  );
  assert.throws(
    () => parse(blocks.replace(", num_key_value_heads: 2", ", head_dim: 4") + "order: [0, 2]\n"),
    /no layer 2 among 1/,
  );
});

Deno.test("model: first values depend on the seed and the parameter's own path alone", () => {
  const start = (config: unknown, seed: number) =>
    new Map(
      namedParams(tinyModel(config).params).map((
        param,
      ) => [param.path, initialValues(param, seed)]),
    );
  const plain = start(llama, 1), normed = start({ ...llama, qk_norm: true }, 1);
  for (const [path, values] of plain) assert.deepEqual(values, normed.get(path), path);
  assert.ok(normed.size > plain.size);
  assert.notDeepEqual(plain.get("layers.0.mixer.q"), start(llama, 2).get("layers.0.mixer.q"));
  assert.notDeepEqual(plain.get("layers.0.mixer.q"), plain.get("layers.1.mixer.q"));
});

Deno.test("model: output projections start smaller by the square root of twice the depth", () => {
  const spread = (path: string, layers: number) => {
    const params = namedParams(
      tinyModel({ ...llama, hidden_size: 64, intermediate_size: 64, num_hidden_layers: layers })
        .params,
    );
    const values = initialValues(params.find((param) => param.path === path)!, 3);
    return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
  };
  assert.ok(Math.abs(spread("layers.0.mlp.up", 8) / 0.02 - 1) < 0.03);
  assert.ok(Math.abs(spread("layers.0.mlp.down", 8) / (0.02 / 4) - 1) < 0.03);
  assert.ok(Math.abs(spread("layers.0.mixer.o", 2) / (0.02 / 2) - 1) < 0.03);
});

Deno.test("replay: PolyGLU 29: every parameter declares its role, whatever its number of axes", () => {
  const model = tinyModel(
    variants["gelu, layer norm, biases, window, softcaps, a replayed and modulated layer, a skip"],
  );
  const byRole = Object.fromEntries(
    countByRole(namedParams(model.params)).map(({ role, tensors }) => [role, tensors]),
  );
  assert.deepEqual(byRole, { matrix: 13, embedding: 1, gain: 7, bias: 6 });
});

Deno.test("model: the benchmark model has the parameters that its sizes give", () => {
  const config = modelConfig.parse({
    hidden_size: 256,
    num_hidden_layers: 6,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    intermediate_size: 688,
  });
  const model = buildModel(
    completeModel(config, { vocab_size: 4096, max_position_embeddings: 256 }),
  );
  const params = namedParams(model.params);
  const layer = 256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 688 + 2 * 256;
  assert.equal(countAll(params), 4096 * 256 + 6 * layer + 256);
  assert.deepEqual(countByPart(params).map(({ part, total }) => [part, total]), [
    ["input", 4096 * 256],
    ["layers.*.residual", 6 * 512],
    ["layers.*.mixer", 6 * (256 * 256 * 2 + 256 * 128 * 2)],
    ["layers.*.mlp", 6 * 3 * 256 * 688],
    ["norm", 256],
  ]);
  assert.ok(pathsOf(model.params).includes("layers.5.residual.mlp_norm.gain"));
});
