/** A device that computes some ops wrong. */

import type { Device, HostArray } from "../../../core/device/mod.ts";

type Spoil = (values: Float32Array) => Float32Array;

/** The device with what plans of an op hand out spoilt; the self-test runs each op as a plan of its own. */
export function wrongAt(device: Device, spoils: Readonly<Record<string, Spoil>>): Device {
  return {
    ...device,
    async compile(plan, state, options) {
      const executable = await device.compile(plan, state, options);
      const spoil = plan.steps.map(({ op }) => spoils[op.name]).find((found) => found);
      if (!spoil) return executable;
      const spoilAll = (outputs: Readonly<Record<string, HostArray>>) =>
        Object.fromEntries(
          Object.entries(outputs).map(([name, values]) => [name, spoil(Float32Array.from(values))]),
        );
      return {
        ...executable,
        outputs: async () => (await executable.outputs()).map(spoilAll),
      };
    },
  };
}
