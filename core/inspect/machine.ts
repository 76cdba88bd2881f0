/** What the machine is, as far as it says so without being asked for anything costly. */

import { existsSync } from "node:fs";

export interface Machine {
  /** "linux 6.1.0, x86_64". */
  readonly system: string;
  readonly deno: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly availableBytes: number;
  /** Files that announce Vulkan drivers to the loader; empty on other systems than Linux. */
  readonly vulkanDrivers: readonly string[];
  /** What NVIDIA's kernel module says of itself. */
  readonly nvidiaDriver: string | undefined;
}

export function describeMachine(): Machine {
  const memory = Deno.systemMemoryInfo();
  return {
    system: `${Deno.build.os} ${Deno.osRelease()}, ${Deno.build.arch}`,
    deno: Deno.version.deno,
    processors: navigator.hardwareConcurrency,
    memoryBytes: memory.total,
    availableBytes: memory.available,
    vulkanDrivers: Deno.build.os === "linux" ? vulkanDrivers() : [],
    nvidiaDriver: nvidiaDriver(),
  };
}

/** Where the Vulkan loader looks, system-wide. */
const folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

function vulkanDrivers(): string[] {
  return folders.filter((folder) => existsSync(folder)).flatMap((folder) =>
    [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".json"))
  ).sort();
}

function nvidiaDriver(): string | undefined {
  try {
    const text = Deno.readTextFileSync("/proc/driver/nvidia/version");
    return text.match(/Kernel Module[^\d]*([\d.]+)/)?.[1];
  } catch {
    return undefined; // no such driver, or no such system
  }
}
