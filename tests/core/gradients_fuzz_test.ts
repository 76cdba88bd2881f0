/** Random graphs with their gradients, planned and fused: the same numbers on every machine. */

import assert from "node:assert/strict";
import { add, gradients, mul, sumAll } from "../../kernels/mod.ts";
import { type Graph, nodesOf } from "../../core/graph/mod.ts";
import { webgpuTest } from "../support.ts";
import { cpuMachine, type Machine, plainLoops, webgpuMachine } from "../machines.ts";
import { worstError } from "../support_device.ts";
import { randomGraph, randomInputs } from "./plan/random_graphs.ts";

/** The graph, and the gradients of its outputs' sum of squares in all of its inputs. */
function withGradients(graph: Graph): Graph {
  const loss = graph.outputs
    .map(({ value }) => sumAll(mul(value, value)))
    .reduce((sum, term) => add(sum, term));
  const found = gradients(loss, graph.inputs.map(({ tensor }) => tensor));
  const slopes = graph.inputs.map(({ name }, i) => ({ name: `grad.${name}`, value: found[i] }));
  return { ...graph, outputs: [...graph.outputs, ...slopes] };
}

// Sums and functions in f32, of values of size 1. A value in the middle between two halves may
// round either way.
const toleranceOf = (graph: Graph) =>
  nodesOf(graph.outputs.map(({ value }) => value)).some(({ op }) => op.name === "cast")
    ? 1 / 64
    : 1e-4;

async function checkGraphs(opened: Machine, count: number): Promise<void> {
  await using machine = opened;
  for (let seed = 0; seed < count; seed++) {
    const graph = withGradients(randomGraph(seed, 4 + seed % 12)),
      inputs = randomInputs(seed),
      tolerance = toleranceOf(graph);
    const expected = await (await plainLoops("f32").start(graph)).run(inputs);
    using session = await machine.start(graph);
    const found = await session.run(inputs);
    for (const name of Object.keys(expected)) {
      const error = worstError(found[name], expected[name]);
      assert.ok(error < tolerance, `${machine.name}: seed ${seed}, ${name} is off by ${error}`);
    }
  }
}

Deno.test("random graphs with gradients, on the cpu", async () =>
  await checkGraphs(await cpuMachine(), 100));

webgpuTest("random graphs with gradients, on WebGPU", async () => {
  await checkGraphs(await webgpuMachine(), 16);
});
