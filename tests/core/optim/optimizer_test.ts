import assert from "node:assert/strict";
import { ShapeError } from "../../../core/graph/mod.ts";
import { parseConfig } from "../../../core/io/config.ts";
import {
  bindOptimizer,
  evenClock,
  learningRates,
  optimizerConfig,
  type OptimizerParam,
  scalarsOf,
} from "../../../core/optim/mod.ts";

const params: OptimizerParam[] = [
  { path: "input.embedding", shape: [11, 4], role: "embedding" },
  { path: "input.bigram.project", shape: [4, 3], role: "matrix" },
  { path: "layers.0.mixer.q", shape: [4, 4], role: "matrix" },
  { path: "layers.10.mlp.up", shape: [8, 4], role: "matrix" },
  { path: "norm.gain", shape: [4], role: "gain" },
];

const grouped = {
  max_norm: 0.3,
  groups: [
    { kind: "muon", params: ["layers.*"], roles: ["matrix"], learning_rate: 0.02 },
    { kind: "ademamix", roles: ["embedding"], learning_rate: 0.03 },
    { kind: "adamw", learning_rate: { kind: "linear", peak: 0.01 }, weight_decay: 0.5 },
  ],
};

Deno.test("optimizer groups: the first that takes a parameter trains it, with its own buffers and scalars", () => {
  const config = optimizerConfig.parse(grouped), optimizer = bindOptimizer(config, params);
  const kept = Object.entries(optimizer.buffers)
    .flatMap(([buffer, of]) => Object.keys(of).map((path) => `${buffer} of ${path}`));
  assert.deepEqual(kept.toSorted(), [
    "m of input.bigram.project",
    "m of norm.gain",
    "m1 of input.embedding",
    "m2 of input.embedding",
    "momentum of layers.0.mixer.q",
    "momentum of layers.10.mlp.up",
    "v of input.bigram.project",
    "v of input.embedding",
    "v of norm.gain",
  ]);
  const told = optimizer.summary.map(({ kind, role, params, weightDecay }) => [
    kind,
    role,
    params.length,
    weightDecay,
  ]);
  assert.deepEqual(told, [
    ["muon", "matrix", 2, 0],
    ["ademamix", "embedding", 1, 0],
    ["adamw", "matrix", 1, 0.5],
    ["adamw", "gain", 1, 0],
  ]);
  const { hyper, learningRate, maxNorm } = scalarsOf(config, evenClock(10))(5);
  assert.deepEqual([learningRate, maxNorm, hyper.length], [0.02, 0.3, optimizer.hyper.shape[0]]);
  assert.deepEqual([hyper[0], hyper[3], hyper[3 + 15]], [0.02, 0.03, 0.005]);
  assert.deepEqual(learningRates(config).map(({ path }) => path.join(".")), [
    "groups.0.learning_rate",
    "groups.1.learning_rate",
    "groups.2.learning_rate",
  ]);
});

Deno.test("optimizer groups: a parameter without a group, a group without parameters and a vector for muon are refused", () => {
  const bound = (groups: unknown[]) => bindOptimizer(optimizerConfig.parse({ groups }), params);
  const refused = (groups: unknown[], pattern: RegExp) =>
    assert.throws(
      () => bound(groups),
      (error) => error instanceof ShapeError && pattern.test(error.message),
    );
  const rate = { learning_rate: 0.1 };
  refused(
    [{ kind: "adamw", roles: ["matrix", "embedding"], ...rate }],
    /no group takes norm\.gain \(gain\)/,
  );
  refused(
    [{ kind: "adamw", ...rate }, { kind: "muon", roles: ["matrix"], ...rate }],
    /group 1 \(muon\) is left nothing/,
  );
  refused([{ kind: "muon", ...rate }], /muon trains matrices alone, not norm\.gain \[4\]/);
});

Deno.test("optimizer configs: what is wrong in a group is said at its place", () => {
  const text = "groups:\n  - kind: muon\n    learning_rate: 0.1\n    beta1: 0.9\n";
  assert.throws(
    () => parseConfig(optimizerConfig, { text, file: "a.yaml" }),
    /unknown key groups\.0\.beta1; known here: kind, learning_rate, momentum/,
  );
});
