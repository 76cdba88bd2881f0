import assert from "node:assert/strict";
import { interpret } from "../../../core/graph/mod.ts";
import { planGraph, type Target } from "../../../core/plan/mod.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";
import { randomGraph, randomInputs } from "./random_graphs.ts";

// f32 rounds between fused steps as it does between ops, so plain loops agree to a few units of the
// last place; sums over rows are taken in another order.
const TOLERANCE = 1e-5;

for (const wasm of [false, true]) {
  Deno.test(`fusion changes no value: 300 random graphs, ${wasm ? "in wasm" : "by plain loops"}`, async () => {
    await using device = await openCpu({ threads: 1, blas: "off", wasm });
    for (let seed = 0; seed < 300; seed++) {
      const graph = randomGraph(seed, 3 + seed % 30), inputs = randomInputs(seed);
      const given = new Map(graph.inputs.map(({ name, tensor }) => [tensor, inputs[name]]));
      const expected = interpret(graph.outputs.map(({ value }) => value), given);
      for (const target of [device.target, { ...device.target, epilogues: !wasm }]) {
        const plan = planGraph(graph, target as Target), store = device.createState([]);
        using executable = await device.compile(plan, store);
        executable.run(inputs);
        const [outputs] = await executable.outputs();
        graph.outputs.forEach(({ name }, i) => {
          outputs[name].forEach((value, j) => {
            const error = Math.abs(value - expected[i][j]) / Math.max(1, Math.abs(expected[i][j]));
            assert(
              error < TOLERANCE,
              `seed ${seed}, ${name}[${j}]: ${value} is not ${expected[i][j]}`,
            );
          });
        });
      }
    }
  });
}

Deno.test("a fused plan moves fewer bytes in fewer dispatches and never more memory than nodes alone", async () => {
  await using device = await openCpu({ threads: 1, blas: "off", wasm: false });
  let saved = 0;
  for (let seed = 0; seed < 50; seed++) {
    const graph = randomGraph(seed, 30);
    const alone = planGraph(graph, device.target, { fuse: false }).totals,
      fused = planGraph(graph, device.target).totals;
    assert(fused.dispatches <= alone.dispatches);
    saved += alone.dispatches - fused.dispatches;
  }
  assert(saved > 200, `${saved} dispatches saved`);
});
