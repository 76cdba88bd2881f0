/**
 * Every kernel of every op, in each of its variants, against the plain loops.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { OpContext } from "../../core/graph/mod.ts";
import { kernelsFor, openWebgpu, webgpuTarget } from "../../core/device/webgpu/mod.ts";
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
      mine.flatMap((sample) => {
        const all = kernelsFor(sample.op, contextOf(sample), limits);
        return all.slice(1).map((kernel) => kernel.name);
      }),
    );
    for (const variant of variants) {
      const target = webgpuTarget(limits, { [name]: variant });
      await t.step(`${name}, ${variant}`, async () => {
        assert.deepEqual(await disagreements(device, mine, target), []);
      });
    }
  }
});
