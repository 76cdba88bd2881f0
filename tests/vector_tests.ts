/**
 * Tests that hold what is computed to golden vectors: by the plain loops in double precision, on the
 * cpu device and on WebGPU.
 *
 * @module
 */

import assert from "node:assert/strict";
import { cpuMachine, type Machine, plainLoops, webgpuMachine } from "./machines.ts";
import { webgpuTest } from "./support.ts";
import {
  caseGraph,
  type CaseResult,
  checkClose,
  type Tensors,
  type VectorCase,
  type VectorSet,
} from "./vectors.ts";

/** How a golden case is computed with our ops. */
export interface CaseOps {
  readonly body: (inputs: Tensors, cotangents: Tensors, c: VectorCase) => CaseResult;
  /**
   * Goes through exp, log, tanh, sin or cos, for which WGSL promises less than a CPU's library: ten
   * times the tolerance there.
   */
  readonly transcendental?: true;
  /**
   * Holds an f32 table of ours, so that even in double precision it is f32 away from the recorded
   * f64 run.
   */
  readonly table?: true;
}

/** Cases that are more than one graph: they do their own checking. */
export type CheckCase = (machine: Machine, c: VectorCase) => Promise<void>;

/** Tests of all cases of a set, of which none may be left out. */
export function testVectors(
  name: string,
  set: VectorSet,
  caseOps: Readonly<Record<string, CaseOps>>,
  others: Readonly<Record<string, CheckCase>> = {},
): void {
  Deno.test(`${name}: every case that is kept is read`, () => {
    const read = [...Object.keys(caseOps), ...Object.keys(others)];
    assert.deepEqual(read.toSorted(), set.ids.toSorted());
  });
  const checkAll = async (t: Deno.TestContext, opened: Machine) => {
    await using machine = opened;
    for (const [id, ops] of Object.entries(caseOps)) {
      await t.step(id, () => checkCase(machine, set.read(id), ops));
    }
    for (const [id, check] of Object.entries(others)) {
      await t.step(id, () => check(machine, set.read(id)));
    }
  };
  Deno.test(`${name}: plain loops in double precision`, (t) => checkAll(t, plainLoops("f64")));
  Deno.test(`${name}: cpu`, async (t) => await checkAll(t, await cpuMachine()));
  webgpuTest(`${name}: webgpu`, async (t) => await checkAll(t, await webgpuMachine()));
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
    // what has no tolerance was computed in f32, and is an ulp or so from it
    if (ops.table) checkClose(what, found, recorded, suggested_atol, 2 ** -23);
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
