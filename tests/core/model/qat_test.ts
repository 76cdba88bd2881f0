import assert from "node:assert/strict";
import { leavesOf, mapTree, type Spec, spec, type Tensor, trace } from "../../../core/graph/mod.ts";
import {
  initialValues,
  type LabelledRows,
  type ModelTree,
  namedParams,
  qatConfig,
  roundedToLevels,
  withQat,
} from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import { evenClock, valueAt } from "../../../core/optim/mod.ts";
import { gradients, linear } from "../../../kernels/mod.ts";
import { plainLoops } from "../../machines.ts";
import { testVectors } from "../../vector_tests.ts";
import { checkClose, vectorSet } from "../../vectors.ts";
import { llama, tinyModel, vocab } from "./tiny.ts";

const quantisation = vectorSet("quantisation");
const late = { ...quantisation, ids: quantisation.ids.filter((id) => id.startsWith("qat_")) };

testVectors("quantisation-aware training", late, {
  qat_linear: {
    body: ({ x, weight }) => ({
      out: { y: linear(x, roundedToLevels(weight, { bits: 6, floor: "reference" })) },
    }),
  },
});

const plain = tinyModel(llama);
const config = qatConfig.parse({ bits: 5, from: "50%", params: ["layers.*.mlp", "*.q"] });
const model = withQat(plain, config);
const values = new Map(
  namedParams(plain.params).map((param, i) => [param.path, initialValues(param, i)]),
);

/** The sum of losses, and its gradients by path, in double precision. */
async function lossOf(
  weights: ReadonlyMap<string, ArrayLike<number>>,
  { isOn, qat }: { isOn: number; qat: boolean },
) {
  const paths = [...weights.keys()];
  const graph = trace((state: Record<string, Tensor>, batch: Record<string, Tensor>) => {
    const { params } = state as unknown as { params: ModelTree<TensorTree> };
    const { sum } = model.loss(params, batch as unknown as LabelledRows, { qat });
    const leaves = leavesOf<Tensor>(params).map(({ leaf }) => leaf);
    const grads = gradients(sum, leaves).map((grad, i) => [paths[i], grad]);
    return { outputs: { sum, ...Object.fromEntries(grads) } };
  }, {
    state: {
      params: mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype })),
    } as unknown as Record<string, Spec>,
    batch: {
      ids: spec([2, 6], "i32"),
      targets: spec([2, 6], "i32"),
      positions: spec([2, 6], "i32"),
      scalars: spec([1]),
    },
  });
  const state = Object.fromEntries(paths.map((path) => [`params.${path}`, weights.get(path)!]));
  await using machine = plainLoops("f64");
  using session = await machine.start(graph, state);
  return await session.run({
    ids: Int32Array.from({ length: 12 }, (_, i) => 5 * i % vocab),
    targets: Int32Array.from({ length: 12 }, (_, i) => 7 * i % vocab),
    positions: Int32Array.from({ length: 12 }, (_, i) => i % 6),
    scalars: [isOn],
  });
}

const rounded = new Map<string, Float32Array | Float64Array>([...values].map(([path, weights]) => {
  if (!/\.mlp\.|\.q$/.test(path)) return [path, weights];
  const columns = namedParams(plain.params).find((param) => param.path === path)!.shape[1];
  const scaleOf = (i: number) => {
    const first = i - i % columns, row = weights.slice(first, first + columns);
    return Math.max(...row.map(Math.abs)) / 15;
  };
  return [path, Float64Array.from(weights, (w, i) => Math.round(w / scaleOf(i)) * scaleOf(i))];
}));

Deno.test("qat: once it is on, losses and gradients are those of the rounded weights", async () => {
  const found = await lossOf(values, { isOn: 1, qat: true });
  const wanted = await lossOf(rounded, { isOn: 0, qat: false });
  assert.notEqual(found.sum[0], (await lossOf(values, { isOn: 0, qat: true })).sum[0]);
  for (const name of Object.keys(wanted)) checkClose(name, found[name], wanted[name], 1e-9, 1e-9);
});

Deno.test("qat: before it is on, and where it is not asked for, weights are as they are", async () => {
  const wanted = await lossOf(values, { isOn: 0, qat: false });
  for (const [isOn, qat] of [[0, true], [1, false]] as const) {
    const found = await lossOf(values, { isOn, qat });
    for (const name of Object.keys(wanted)) checkClose(name, found[name], wanted[name], 1e-12, 0);
  }
});

Deno.test("qat: it begins at its moment, and stays", () => {
  const at = (from: unknown, step: number) => {
    const { scalars } = withQat(plain, qatConfig.parse({ bits: 6, from }));
    return valueAt(scalars[0].schedule, step, evenClock(10));
  };
  assert.deepEqual([4, 5, 9].map((step) => at("50%", step)), [0, 1, 1]);
  assert.deepEqual([0, 1, 9].map((step) => at(0, step)), [1, 1, 1]);
  assert.deepEqual(model.scalars[0].readers.filter((path) => path.includes("layers.0")), [
    "layers.0.mixer.q",
    "layers.0.mlp.gate",
    "layers.0.mlp.up",
    "layers.0.mlp.down",
  ]);
});
