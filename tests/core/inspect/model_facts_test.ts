import assert from "node:assert/strict";
import { openCpu } from "../../../core/device/cpu/device.ts";
import { modelFacts } from "../../../core/inspect/model_facts.ts";
import { modelOf, pretrainConfig } from "../../../core/train/mod.ts";

const attention = { kind: "attention", num_attention_heads: 2 };
const polyglu = { kind: "polyglu", intermediate_size: 24 };
const swiglu = { kind: "swiglu", intermediate_size: 24 };

async function factsOf(changes: Record<string, unknown>, model: Record<string, unknown>) {
  const config = pretrainConfig.parse({
    model: { hidden_size: 16, ...model },
    data: { path: "data" },
    sequence_length: 32,
    batch_size: 4,
    steps: 4,
    optimizer: { kind: "adamw", learning_rate: 0.01, weight_decay: 0.1 },
    ...changes,
  });
  await using device = await openCpu({ threads: 1, blas: "off" });
  return modelFacts(modelOf(config, 50), config.optimizer, device.target);
}

// its optimizer grouped by the number of axes, and what routing had learned decayed
Deno.test("replay: danielxmed/PolyGLU bug diary, 27 Feb 2026: the table of roles says what is decayed", async () => {
  const blocks = [{ mixer: attention, mlp: polyglu }];
  const plain = await factsOf({}, { blocks });
  const of = (facts: typeof plain, name: string) => {
    const found = facts.trained!.filter(({ params }) => params.includes(name));
    assert.equal(found.length, 1);
    return [found[0].role, found[0].weightDecay];
  };
  const alpha = "layers.*.mlp.router.alpha", net = "layers.*.mlp.router.hidden";
  for (const name of [alpha, net]) assert.deepEqual(of(plain, name), ["router", 0]);
  assert.deepEqual(of(plain, "layers.*.mlp.up"), ["matrix", 0.1]);
  const optimizer = {
    groups: [
      {
        kind: "adamw",
        learning_rate: 0.01,
        weight_decay: { router: 0.1 },
        params: ["*.router.hidden"],
      },
      { kind: "adamw", learning_rate: 0.01 },
    ],
  };
  const grouped = await factsOf({ optimizer }, { blocks });
  assert.deepEqual([of(grouped, alpha), of(grouped, net)], [["router", 0], ["router", 0.1]]);
  const total = grouped.trained!.reduce((sum, { total }) => sum + total, 0);
  assert.equal(total, grouped.params);
});

Deno.test("a model's parts: layers that say the same are one line, whatever stands between", async () => {
  const blocks = [
    { repeat: 2, mixer: attention, mlp: swiglu },
    { mixer: attention, mlp: polyglu },
    { mixer: attention, mlp: swiglu },
  ];
  const order = [0, 1, { layer: 1, modulated: true }, 2, 3];
  const { parts, byPart, params, flopsPerToken } = await factsOf({}, { blocks, order });
  assert.deepEqual(
    parts.map(({ at, kind }) => `${at} ${kind}`),
    [
      "input token",
      "layers.0–3.mixer attention",
      "layers.0–1,3.mlp swiglu",
      "layers.0–3.residual pre_norm",
      "layers.2.mlp polyglu",
      "order 0 1 1* 2 3 ",
      "norm rms_norm",
      "head linear",
    ].map((line) => line.trim()),
  );
  assert.equal(byPart.reduce((sum, { total }) => sum + total, 0), params);
  // every weight is multiplied with once, those of the layer that is passed again twice
  assert.ok(flopsPerToken > 2 * params && flopsPerToken < 6 * params);
});
