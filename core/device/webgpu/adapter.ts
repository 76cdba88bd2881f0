/** Finding an adapter and opening a device on it with all that it can do, verified. */

import { DeviceError, type DeviceInfo } from "../types.ts";
import type { WebgpuLimits } from "./target.ts";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";

/** What was opened. `limits` were read back from the device, not taken from the request. */
export interface OpenedAdapter {
  readonly device: GPUDevice;
  readonly info: DeviceInfo;
  readonly limits: WebgpuLimits;
  /** A processor that plays a GPU: llvmpipe, SwiftShader. */
  readonly software: boolean;
}

/** Limits that kernels or buffers depend on. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupsPerDimension",
  "maxUniformBufferBindingSize",
] as const;

// Subgroups are granted by Deno although no adapter lists them; browsers list them. One try a set, the richest first.
const featureSets: readonly (readonly string[])[] = [
  ["shader-f16", "timestamp-query", "subgroups"],
  ["shader-f16", "subgroups"],
  ["timestamp-query", "subgroups"],
  ["subgroups"],
  ["shader-f16", "timestamp-query"],
  ["shader-f16"],
  ["timestamp-query"],
  [],
];

/**
 * The system's best adapter, or null where there is none. On Linux the GL backend must be asked for with
 * `DENO_WEBGPU_BACKEND=gl`: it would be taken silently where Vulkan is missing, with half the limits and no f16.
 */
export async function findAdapter(): Promise<GPUAdapter | null> {
  if (!("gpu" in navigator)) return null;
  if (Deno.build.os === "linux") {
    if (!Deno.env.get("DENO_WEBGPU_BACKEND")) Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
    // Without an existing folder here the loader writes two lines of complaint to stderr.
    const folder = Deno.env.get("XDG_RUNTIME_DIR");
    if (!folder || !existsSync(folder)) Deno.env.set("XDG_RUNTIME_DIR", tmpdir());
  }
  return await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
}

/** Whether an adapter is software, told without opening it. */
export function isSoftware({ info }: GPUAdapter): boolean {
  return info.isFallbackAdapter ||
    /llvmpipe|swiftshader|software|microsoft basic/i.test(info.description);
}

/** Opens the adapter's device; throws `DeviceError` with what to try. */
export async function openAdapter(): Promise<OpenedAdapter> {
  const first = await findAdapter();
  if (!first) {
    const backend = Deno.env.get("DENO_WEBGPU_BACKEND");
    throw new DeviceError(
      `no WebGPU adapter${backend ? ` for the backend ${backend}` : ""}: install a Vulkan driver ` +
        "(on Debian without a GPU: mesa-vulkan-drivers), try another DENO_WEBGPU_BACKEND (vulkan, gl, dx12, metal), or use --device cpu",
    );
  }
  const device = await requestDevice(first);
  const limits = verifiedLimits(first, device);
  const { vendor, architecture, description } = first.info;
  const name = description || architecture || vendor || "unnamed adapter";
  return {
    device,
    limits,
    software: isSoftware(first),
    info: {
      kind: "webgpu",
      name,
      details: {
        adapter: name,
        vendor,
        architecture,
        backend: Deno.env.get("DENO_WEBGPU_BACKEND") ?? "default",
        software: isSoftware(first),
        features: [...device.features].sort(),
        deno: Deno.version.deno,
        subgroup_min: limits.subgroupSizes[0],
        subgroup_max: limits.subgroupSizes[1],
        ...Object.fromEntries(wantedLimits.map((limit) => [limit, device.limits[limit]])),
      },
    },
  };
}

/** What the system's adapter grants; undefined where none can be used. Only an open device says so: it is closed at once. */
export async function grantedLimits(): Promise<{ name: string; limits: WebgpuLimits } | undefined> {
  try {
    const { device, info: { name }, limits } = await openAdapter();
    device.destroy();
    return { name, limits };
  } catch (error) {
    if (error instanceof DeviceError) return undefined;
    throw error;
  }
}

async function requestDevice(first: GPUAdapter): Promise<GPUDevice> {
  const requiredLimits = Object.fromEntries(
    wantedLimits.map((limit) => [limit, askable(first.limits[limit])]),
  );
  let adapter: GPUAdapter | null = first, failure: unknown;
  for (const features of featureSets) {
    try {
      return await adapter.requestDevice({
        requiredFeatures: features as GPUFeatureName[],
        requiredLimits,
      });
    } catch (error) {
      failure = error;
      // A failed request may use an adapter up.
      adapter = await findAdapter();
      if (!adapter) break;
    }
  }
  throw new DeviceError(
    `the adapter ${first.info.description} gives no device: ${messageOf(failure)}`,
  );
}

/** Some drivers name the largest 64-bit number, which JavaScript cannot ask for. */
const askable = (limit: number) => Math.min(limit, Number.MAX_SAFE_INTEGER);

/** Unknown limit names are ignored in silence, so what was granted is compared with what was asked. */
function verifiedLimits(
  adapter: GPUAdapter,
  device: GPUDevice,
): WebgpuLimits {
  for (const limit of wantedLimits) {
    if (!(device.limits[limit] >= askable(adapter.limits[limit]))) {
      throw new DeviceError(
        `the device grants ${limit} ${device.limits[limit]} of the ${
          adapter.limits[limit]
        } that were asked for`,
      );
    }
  }
  const { limits, features } = device, subgroups = features.has("subgroups" as GPUFeatureName);
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = adapter.info;
  return {
    maxWorkgroupStorageBytes: limits.maxComputeWorkgroupStorageSize,
    maxInvocations: Math.min(
      limits.maxComputeInvocationsPerWorkgroup,
      limits.maxComputeWorkgroupSizeX,
    ),
    maxWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    maxBindingBytes: limits.maxStorageBufferBindingSize,
    maxBufferBytes: limits.maxBufferSize,
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    f16: features.has("shader-f16"),
    subgroups,
    subgroupSizes: subgroups ? [subgroupMinSize, subgroupMaxSize] : [0, 0],
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
