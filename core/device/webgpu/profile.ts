/**
 * Where a run's time goes: every dispatch in a pass of its own, between two timestamps. That takes
 * away the overlap that runs have, so the sum is more than a run's time; shares are what it is for.
 */

import { DeviceError } from "../types.ts";
import type { Dispatch } from "./binding.ts";
import type { WebgpuDevice } from "./device.ts";

/** One dispatch's time. */
export interface DispatchTime {
  /** Op and kernel. */
  readonly label: string;
  /** Where in the model. */
  readonly path: string;
  readonly milliseconds: number;
}

/** Timestamps that one query set may hold. */
const QUERIES = 4096;

export async function timeDispatches(
  device: WebgpuDevice,
  dispatches: readonly Dispatch[],
): Promise<DispatchTime[]> {
  if (!device.gpu.features.has("timestamp-query")) {
    throw new DeviceError("this adapter has no timestamps: kernels cannot be timed one by one");
  }
  const times: DispatchTime[] = [];
  for (let at = 0; at < dispatches.length; at += QUERIES / 2) {
    times.push(...await timeSome(device, dispatches.slice(at, at + QUERIES / 2)));
  }
  return times;
}

async function timeSome(
  device: WebgpuDevice,
  dispatches: readonly Dispatch[],
): Promise<DispatchTime[]> {
  const { gpu, memory } = device, count = 2 * dispatches.length, bytes = 8 * count;
  const querySet = gpu.createQuerySet({ type: "timestamp", count });
  const resolved = memory.allocate(
    bytes,
    GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    "timestamps",
  );
  try {
    const encoder = gpu.createCommandEncoder();
    dispatches.forEach(({ pipeline, group, grid }, i) => {
      const pass = encoder.beginComputePass({
        timestampWrites: {
          querySet,
          beginningOfPassWriteIndex: 2 * i,
          endOfPassWriteIndex: 2 * i + 1,
        },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...grid);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    device.submit(encoder, dispatches.reduce((sum, { work }) => sum + work, 0));
    const nanoseconds = new BigUint64Array(
      await device.readBuffer([{ buffer: resolved, offset: 0, bytes }]),
    );
    return dispatches.map(({ label, path }, i) => ({
      label,
      path,
      milliseconds: Number(nanoseconds[2 * i + 1] - nanoseconds[2 * i]) / 1e6,
    }));
  } finally {
    memory.release(resolved);
    querySet.destroy();
  }
}
