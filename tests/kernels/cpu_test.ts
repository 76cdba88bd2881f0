/**
 * Every op on the cpu device against the plain loops, alone and with helpers.
 *
 * @module
 */

import assert from "node:assert/strict";
import { openCpu } from "../../core/device/cpu/device.ts";
import { disagreements } from "./agreement.ts";
import { cases } from "./cases.ts";

for (const threads of [1, 2]) {
  Deno.test(`cpu: kernels agree with the plain loops, ${threads} at work`, async (t) => {
    await using device = await openCpu({ threads, blas: "off" });
    for (const name of new Set(cases.map(({ op }) => op.name))) {
      await t.step(name, async () => {
        assert.deepEqual(
          await disagreements(device, cases.filter(({ op }) => op.name === name)),
          [],
        );
      });
    }
  });
}
