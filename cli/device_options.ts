/**
 * The options that say where the work is done, and the opening of that device.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";
import type { Device } from "../core/device/mod.ts";
import { wholeNumber } from "./options.ts";

/** What the three options come to. */
export interface DeviceChoice {
  readonly device: "auto" | "cpu" | "webgpu";
  readonly blas: "auto" | "off";
  readonly threads?: number | undefined;
}

/** `--device`, also from QUERN_DEVICE. */
export function deviceOption() {
  return new Option("--device <name>", "auto takes a GPU if there is one").env("QUERN_DEVICE")
    .choices(["auto", "cpu", "webgpu"] as const).default("auto" as const);
}

/** `--blas`: whether the cpu device may use a system BLAS. */
export function blasOption() {
  return new Option("--blas <mode>", "a system BLAS for matrix products on the cpu device")
    .choices(["auto", "off"] as const).default("auto" as const);
}

/** `--threads`: members of the cpu device's pool. */
export function threadsOption() {
  return new Option("--threads <n>", "threads of the cpu device (default: all)")
    .argParser(wholeNumber(1));
}

/** Opens the device; this is where a GPU's driver wakes. */
export async function openChosenDevice({ device, blas, threads }: DeviceChoice): Promise<Device> {
  const { openDevice } = await import("../core/device/mod.ts");
  return await openDevice({ device, blas, ...(threads === undefined ? {} : { threads }) });
}
