import assert from "node:assert/strict";
import { packHalves } from "../../core/graph/mod.ts";
import { webgpuTest } from "../support.ts";
import { cpuMachine, type Machine, plainLoops, webgpuMachine } from "../machines.ts";
import { caseGraph, checkClose, readCase, type VectorCase, vectorCases } from "../vectors.ts";
import { type CaseOps, caseOps } from "./vectors_cases.ts";
import { optimizerCases } from "./vectors_optimizer.ts";

Deno.test("golden vectors: every case that is kept is read", () => {
  const read = [...Object.keys(caseOps), ...Object.keys(optimizerCases)];
  assert.deepEqual(read.toSorted(), vectorCases.toSorted());
});

Deno.test("golden vectors: plain loops in double precision", (t) => checkAll(t, plainLoops("f64")));

Deno.test("golden vectors: cpu", async (t) => await checkAll(t, await cpuMachine()));

webgpuTest("golden vectors: webgpu", async (t) => await checkAll(t, await webgpuMachine()));

async function checkAll(t: Deno.TestContext, opened: Machine): Promise<void> {
  await using machine = opened;
  for (const [id, ops] of Object.entries(caseOps)) {
    await t.step(id, () => checkCase(machine, readCase(id), ops));
  }
  for (const [id, check] of Object.entries(optimizerCases)) {
    await t.step(id, () => check(machine, readCase(id)));
  }
}

async function checkCase(machine: Machine, c: VectorCase, ops: CaseOps): Promise<void> {
  const graph = caseGraph(c, (inputs, cotangents) => ops.body(inputs, cotangents, c));
  using session = await machine.start(graph);
  const given = graph.inputs.map(({ name }) => [name, c.tensors.get(name)!.values]);
  const found = await session.run(Object.fromEntries(given));
  for (const name of Object.keys(found)) checkTensor(machine, c, ops, name, found[name]);
}

function checkTensor(
  machine: Machine,
  c: VectorCase,
  ops: CaseOps,
  name: string,
  found: ArrayLike<number>,
): void {
  const { suggested_atol = 0, atol_99pct, f32_vs_f64_max_abs = 0 } = c.tolerance(name);
  const recorded = c.tensors.get(name)!.values, what = `${machine.name}: ${c.id}, ${name}`;
  if (machine.name === "loops, f64") {
    // Storage is not rounded in double precision, which is all that half_rounding is about.
    if (c.id === "half_rounding") return;
    const twin = c.tensors.get(`f64/${name}`)?.values;
    if (ops.table) checkClose(what, found, recorded, suggested_atol, 0);
    else if (twin) checkClose(what, found, twin, 1e-12, 1e-12);
    // Recorded in f32 only, at a known distance from f64: the distance is given to three digits.
    else checkClose(what, found, recorded, 1.006 * f32_vs_f64_max_abs, 1e-12);
    return;
  }
  const wider = machine.name === "webgpu" && ops.transcendental ? 10 : 1;
  checkClose(what, found, recorded, wider * suggested_atol, wider * 1e-5);
  if (atol_99pct === undefined) return;
  const off = recorded.filter((x, i) =>
    Math.abs(found[i] - x) > wider * (atol_99pct + 1e-5 * Math.abs(x))
  );
  assert.ok(off.length <= recorded.length / 100, `${what}: ${off.length} of ${recorded.length}`);
}

Deno.test("golden vectors: the bit patterns of halves", () => {
  const { tensors } = readCase("half_rounding");
  for (const dtype of ["bf16", "f16"] as const) {
    const { values } = tensors.get("in/x")!, bits = tensors.get(`out/${dtype}_bits`)!.values;
    const packed = new Uint16Array(packHalves(dtype, values).buffer, 0, values.length);
    assert.deepEqual([...packed], [...bits]);
  }
});
