/**
 * Every kernel of every op, in each of its variants, against the plain loops.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { OpContext } from "../../core/graph/mod.ts";
import {
  assumedLimits,
  kernelNames,
  openWebgpu,
  webgpuTarget,
} from "../../core/device/webgpu/mod.ts";
import type { GpuPass } from "../../kernels/mod.ts";
import { webgpuTest } from "../support.ts";
import { disagreements } from "./agreement.ts";
import { type Case, cases } from "./cases.ts";

const contextOf = ({ op, inputs, attrs }: Case): OpContext => ({
  inputs,
  attrs,
  outputs: op.check(inputs, attrs),
});

webgpuTest("webgpu: kernels agree with the plain loops", async (t) => {
  await using device = await openWebgpu();
  const { limits } = device.target;
  for (const name of new Set(cases.map(({ op }) => op.name))) {
    const mine = cases.filter(({ op }) => op.name === name);
    await t.step(name, async () => {
      assert.deepEqual(await disagreements(device, mine), []);
    });
    const variants = new Set(
      mine.flatMap((sample) => kernelNames(sample.op, contextOf(sample), limits).slice(1)),
    );
    for (const variant of variants) {
      const target = webgpuTarget(limits, { [name]: variant });
      await t.step(`${name}, ${variant}`, async () => {
        assert.deepEqual(await disagreements(device, mine, target), []);
      });
    }
  }
});

/** Bytes of the workgroup variables of a shader; sizes are numbers or constants. */
function workgroupBytesOf(wgsl: string): number {
  const constants = new Map(
    [...wgsl.matchAll(/const (\w+) = (\d+)u;/g)].map(([, name, value]) => [name, value]),
  );
  const bytesOf = (type: string): number => {
    const [, element, size = ""] = type.match(/^array<(.+), (\w+)>$/) ?? [];
    if (element) return bytesOf(element) * Number.parseInt(constants.get(size) ?? size);
    const [, width, scalar] = type.match(/^vec([24])<?(\w+)>?$/) ?? [];
    if (width) return Number(width) * bytesOf(scalar);
    return /^(f16|h)$/.test(type) ? 2 : 4;
  };
  const types = [...wgsl.matchAll(/var<workgroup> \w+: ([^;]+);/g)].map(([, type]) => type);
  return types.reduce((sum, type) => sum + bytesOf(type), 0);
}

function faultsOf(name: string, pass: GpuPass): string[] {
  const faults: string[] = [],
    declared = pass.workgroupBytes ?? 0,
    bytes = workgroupBytesOf(pass.wgsl);
  // Deno's compiler refuses the directive, though it has the feature.
  if (/enable\s+subgroups/.test(pass.wgsl)) faults.push(`${name}: has "enable subgroups"`);
  if (!(declared >= bytes)) {
    faults.push(`${name}: declares ${declared} bytes of workgroup memory, has ${bytes}`);
  }
  // What is bound is never measured: slices are padded.
  if (/arrayLength/.test(pass.wgsl)) faults.push(`${name}: asks for an array's length`);
  return faults;
}

Deno.test("kernels: every op has a kernel for the least that a WebGPU device offers", () => {
  const least = { maxStorageBuffers: 8, maxWorkgroupStorageBytes: 16384, maxInvocations: 256 };
  const target = webgpuTarget({ ...assumedLimits, ...least });
  for (const sample of cases) target.lower(sample.op, contextOf(sample));
});

Deno.test("kernels: shaders of the default limits keep to what they declare", () => {
  const faults = cases.flatMap((sample) => {
    const context = contextOf(sample), name = `${sample.op.name} for ${sample.name}`;
    return kernelNames(sample.op, context, assumedLimits).flatMap((variant) => {
      const target = webgpuTarget(assumedLimits, { [sample.op.name]: variant });
      return target.lower(sample.op, context).lowered.passes.flatMap((pass) =>
        faultsOf(name, pass)
      );
    });
  });
  assert.deepEqual([...new Set(faults)], []);
});
