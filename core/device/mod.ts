/** Opening a device: a hardware GPU, else the cpu. */

import { openCpu } from "./cpu/device.ts";
import { type Device, DeviceError } from "./types.ts";

export * from "./types.ts";

export interface DeviceOptions {
  /** `auto` takes a hardware adapter, else the cpu: a software adapter is slower than the cpu device. */
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
    const { openWebgpu } = await import("./webgpu/mod.ts");
    try {
      return await openWebgpu({ software: device === "webgpu" });
    } catch (error) {
      if (device === "webgpu" || !(error instanceof DeviceError)) throw error;
    }
  }
  return await openCpu({
    ...(blas !== undefined && { blas }),
    ...(threads !== undefined && { threads }),
  });
}
