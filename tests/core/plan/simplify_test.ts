import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import { type Tensor, trace } from "../../../core/graph/mod.ts";
import { planGraph } from "../../../core/plan/mod.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";

Deno.test("numbers that JSON does not tell apart stay apart: infinities, NaN, both zeros", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const numbers = [Infinity, -Infinity, NaN, 0, -0], one = { shape: [], dtype: "f32" as const };
  const graph = trace((_state, { x }: { x: Tensor }) => ({
    outputs: Object.fromEntries(numbers.flatMap((number, i) => [
      [`read${i}`, k.div(x, k.fill([], number))],
      [`stored${i}`, k.fill([], number)],
    ])),
  }), { state: {}, batch: { x: one } });
  using store = device.createState([]);
  using executable = await device.compile(planGraph(graph, device.target), store);
  executable.run({ x: 1 });
  const [outputs] = await executable.outputs();
  assert.deepEqual(numbers.map((_, i) => outputs[`stored${i}`][0]), numbers);
  assert.deepEqual(
    numbers.map((_, i) => outputs[`read${i}`][0]),
    numbers.map((number) => 1 / number),
  );
});
