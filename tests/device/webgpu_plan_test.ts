/**
 * Planned and fused graphs on WebGPU.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Graph, interpret } from "../../core/graph/mod.ts";
import type { Device } from "../../core/device/types.ts";
import { openWebgpu } from "../../core/device/webgpu/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import { webgpuTest } from "../support.ts";
import { worstError } from "../support_device.ts";
import { randomGraph, randomInputs } from "../core/plan/random_graphs.ts";

/** The worst error of a graph's outputs after planning for and running on `device`. */
async function planError(
  device: Device,
  graph: Graph,
  inputs: Record<string, Float32Array>,
): Promise<number> {
  const plan = planGraph(graph, device.target);
  using state = device.createState([]);
  using executable = await device.compile(plan, state, { ring: 1 });
  executable.run(Object.fromEntries(plan.uploads.map(({ name }) => [name, inputs[name]])));
  const [actual] = await executable.outputs();
  // In f32, as the graphs round to halves on the way.
  const expected = interpret(
    graph.outputs.map(({ value }) => value),
    new Map(graph.inputs.map(({ tensor, name }) => [tensor, inputs[name]])),
  );
  return Math.max(
    ...graph.outputs.map(({ name }, i) => worstError(actual[name], expected[i])),
  );
}

webgpuTest("webgpu: random graphs, planned and fused, give what the loops give", async () => {
  await using device = await openWebgpu();
  for (let seed = 0; seed < 24; seed++) {
    const error = await planError(device, randomGraph(seed, 12), randomInputs(seed));
    // A value on the middle between two halves may round either way: at most one unit of bf16.
    assert.ok(error < 1 / 128, `seed ${seed} is off by ${error}`);
  }
});
