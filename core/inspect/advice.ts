/** What would make quern run, run right, or run faster on this machine. */

import type { DeviceInfo } from "../device/mod.ts";
import { plural } from "../io/words.ts";
import type { Machine } from "./machine.ts";
import type { Room } from "./room.ts";

/** An adapter that WebGPU offers. */
export interface Adapter {
  readonly name: string;
  readonly software: boolean;
}

export interface Findings {
  readonly machine: Machine;
  /** What WebGPU offers; undefined where it offers nothing; not asked where the cpu device was asked for. */
  readonly adapter: Adapter | "none" | "not asked";
  readonly device: DeviceInfo;
  /** Bytes of the largest tensor that a kernel can bind. */
  readonly maxTensorBytes: number;
  /** Ops whose kernels are wrong. */
  readonly wrong: readonly string[];
  /** Not asked for on a device that computes wrong. */
  readonly room: Room | undefined;
}

/** The most urgent first; empty where nothing can be said. */
export function adviceFor(findings: Findings): string[] {
  const { machine, adapter, device, wrong, room, maxTensorBytes } = findings;
  const { features, software, blas } = device.details;
  const advice: string[] = [];
  if (wrong.length > 0) advice.push(aboutWrong(device));
  if (adapter === "none") advice.push(aboutDrivers(machine));
  if (device.kind === "webgpu" && software === true) {
    advice.push(
      `${device.name} is a processor that plays a GPU: --device cpu is faster and computes the same`,
    );
  } else if (device.kind === "cpu" && typeof adapter === "object" && adapter.software) {
    advice.push(
      `${adapter.name} is a processor that plays a GPU, so auto takes the cpu device; if this machine has a ` +
        `GPU, its driver is missing or finds nothing: ${lookInto}`,
    );
  }
  if (blas === "none") advice.push(aboutBlas(device));
  if (Array.isArray(features) && !features.includes("subgroups")) {
    advice.push("the driver gives no subgroups: sums and attention are slower; a newer one may");
  }
  if (device.kind === "webgpu" && room?.refused && room.bytes < 2 * 2 ** 30) {
    advice.push(
      "the driver refuses memory early; if the card has more, try another DENO_WEBGPU_BACKEND or " +
        "close what else uses it",
    );
  }
  if (maxTensorBytes < 2 ** 30) {
    advice.push(
      `a tensor may have ${
        plural(maxTensorBytes / 4, "number")
      } at most (vocab_size × hidden_size is one): ` +
        "quern pretrain CONFIG --dry-run --device webgpu says whether a model fits",
    );
  }
  if (machine.availableBytes < 2 ** 30) {
    advice.push("less than 1 GiB of memory is free: close something, or use a smaller batch_size");
  }
  return advice;
}

const lookInto =
  "see what vulkaninfo --summary (Debian: vulkan-tools) lists, and whether you may read /dev/dri";

function aboutWrong({ kind }: DeviceInfo): string {
  return kind === "webgpu"
    ? "do not train on this device: use --device cpu, or update the driver and ask again; another " +
      "DENO_WEBGPU_BACKEND (vulkan, gl, dx12, metal) may be right"
    : "do not train on this device: try --blas off and --threads 1; please report it with --json";
}

/** How a GPU comes to be seen. */
export function aboutDrivers({ vulkanDrivers, nvidiaDriver }: Machine): string {
  const backend = Deno.env.get("DENO_WEBGPU_BACKEND");
  if (Deno.build.os !== "linux") {
    return "no GPU is seen: update the graphics driver" +
      (backend ? `, or unset DENO_WEBGPU_BACKEND (it is ${backend})` : "");
  }
  if (backend && backend !== "vulkan") {
    return `no GPU is seen through DENO_WEBGPU_BACKEND=${backend}: unset it, which means vulkan`;
  }
  if (vulkanDrivers.length > 0) {
    return `Vulkan drivers are announced (${vulkanDrivers.join(", ")}) but ${
      nvidiaDriver ? "see no more" : "find no GPU of theirs"
    }: ${lookInto}`;
  }
  return "no Vulkan driver is installed: libvulkan1 and, for AMD and Intel, mesa-vulkan-drivers " +
    "(Debian, Ubuntu) or vulkan-radeon, vulkan-intel (Arch); for NVIDIA its own driver" +
    (nvidiaDriver ? `, whose kernel part ${nvidiaDriver} is here without its Vulkan part` : "");
}

function aboutBlas({ details }: DeviceInfo): string {
  return details.relaxed_simd
    ? "no system BLAS is used: one (Debian: libopenblas0-pthread) multiplies matrices faster"
    : "no system BLAS is used and this Deno has no relaxed SIMD: a BLAS (Debian: libopenblas0-pthread) " +
      "multiplies matrices far faster";
}
