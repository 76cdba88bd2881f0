/** Opening a device: a hardware GPU, else the cpu. */

import { openCpu } from "./cpu/device.ts";
import type { Device } from "./types.ts";

export * from "./types.ts";

export interface DeviceOptions {
  /**
   * `auto` takes a hardware adapter, else the cpu: a software adapter is slower than the cpu
   * device.
   */
  readonly device?: "auto" | "cpu" | "webgpu";
  /** For the cpu device: `auto`, `off`, or the path of a library. */
  readonly blas?: "auto" | "off" | (string & Record<never, never>);
  readonly threads?: number;
}

export async function openDevice(
  { device = "auto", blas, threads }: DeviceOptions = {},
): Promise<Device> {
  if (device !== "cpu") {
    // The cpu device alone must not wake the GPU's driver.
    const { findAdapter, isSoftware, openWebgpu } = await import("./webgpu/mod.ts");
    if (device === "webgpu") return await openWebgpu();
    const adapter = await findAdapter();
    if (adapter && !isSoftware(adapter)) return await openWebgpu();
  }
  return await openCpu({
    ...(blas !== undefined && { blas }),
    ...(threads !== undefined && { threads }),
  });
}
