/**
 * `quern doctor`: what quern finds on this machine, and whether it computes right there.
 *
 * @module
 */
import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Device } from "../core/device/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import type { Adapter, Findings, Machine, OpResult } from "../core/inspect/mod.ts";
import {
  blasOption,
  type DeviceChoice,
  deviceOption,
  openChosenDevice,
  threadsOption,
} from "./device_options.ts";
import { formatBytes } from "./ui/numbers.ts";
import { version } from "./version.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
Every op runs on the device and is held against its plain loop in double precision. Exit codes: 0 all is
right, 1 a kernel is wrong, 3 there is no such device.

Examples:
  quern doctor
  quern doctor --device webgpu --json`;

/** The command with its options. */
export function doctorCommand(): CommandUnknownOpts {
  return new Command("doctor")
    .summary("look at the machine, and test the device")
    .description("Shows machine and device, tests every kernel, and says what to improve.")
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "print everything as one JSON object", false)
    .option("--quiet", "say only whether all is right", false)
    .addHelpText("after", help)
    .action(async ({ json, quiet, ...choice }) => {
      const report = await examine(choice);
      if (json) console.log(JSON.stringify(jsonOf(report)));
      else printFolded(quiet ? verdict(report) : describe(report));
      refuseWrong(report);
    });
}

/** Ends with exit code 1 where a kernel is wrong. */
export function refuseWrong({ wrong, advice }: Report): void {
  if (wrong.length === 0) return;
  throw new UserError(`wrong on this device: ${wrong.join(", ")}`, {
    hint: advice[0],
    exitCode: exitCodes.failed,
  });
}

/** What was found, and what follows. */
export interface Report extends Findings {
  readonly results: readonly OpResult[];
  readonly advice: readonly string[];
}

async function examine(choice: DeviceChoice): Promise<Report> {
  const { aboutDrivers, describeMachine } = await import("../core/inspect/mod.ts");
  const machine = describeMachine();
  const adapter = choice.device === "cpu" ? "not asked" : await findAdapterOf();
  if (choice.device === "webgpu" && adapter === "none") {
    throw new UserError("there is no WebGPU adapter", {
      hint: `${aboutDrivers(machine)}; without one: --device cpu`,
      exitCode: exitCodes.noDevice,
    });
  }
  await using device = await openChosenDevice(choice);
  return await examineDevice(device, machine, adapter);
}

async function findAdapterOf(): Promise<Adapter | "none"> {
  const { findAdapter, isSoftware } = await import("../core/device/webgpu/mod.ts");
  const found = await findAdapter();
  if (!found) return "none";
  const { description, vendor } = found.info;
  return { name: description || vendor || "unnamed adapter", software: isSoftware(found) };
}

/** Tests an open device. */
export async function examineDevice(
  device: Device,
  machine: Machine,
  adapter: Adapter | "none" | "not asked",
): Promise<Report> {
  const { adviceFor, roomOf, selfTest } = await import("../core/inspect/mod.ts");
  const results = await Array.fromAsync(selfTest(device));
  const wrong = results.filter(({ fault }) => fault !== undefined).map(({ op }) => op);
  const room = wrong.length > 0 ? undefined : await roomOf(device, machine);
  const { info, target: { maxTensorBytes } } = device;
  const findings = { machine, adapter, device: info, maxTensorBytes, wrong, room };
  return { ...findings, results, advice: adviceFor(findings) };
}

function verdict({ results, wrong }: Report): string {
  const right = results.length - wrong.length;
  return wrong.length === 0
    ? `all ${plural(right, "kernel")} right`
    : `${plural(wrong.length, "kernel")} wrong, ${right} right`;
}

/** The report for people. */
export function describe(report: Report): string {
  const { machine, adapter, device, room, results, advice } = report;
  const line = (name: string, value: string) => `${name.padEnd(width)} ${value}`;
  const width = Math.max(18, ...Object.keys(device.details).map((name) => name.length + 2));
  const drivers = [
    ...machine.vulkanDrivers,
    ...machine.nvidiaDriver ? [`NVIDIA ${machine.nvidiaDriver}`] : [],
  ];
  const details = Object.entries(device.details).flatMap(([name, value]) =>
    value === "" ? [] : [line(`  ${labelOf(name)}`, valueText(name, value))]
  );
  return [
    line("quern", `${version}, Deno ${machine.deno}`),
    line("system", machine.system),
    line("processors", String(machine.processors)),
    line(
      "memory",
      `${formatBytes(machine.memoryBytes)}, ${formatBytes(machine.availableBytes)} free`,
    ),
    ...Deno.build.os === "linux" ? [line("drivers", drivers.join(", ") || "none found")] : [],
    line("WebGPU", adapterText(adapter)),
    line("device", `${device.kind}: ${device.name}`),
    ...details,
    line("  largest tensor", formatBytes(report.maxTensorBytes)),
    ...room ? [line("  memory", roomText(room))] : [],
    "",
    line("kernels", `${verdict(report)}: worst error, and what is allowed`),
    ...results.map(({ op, worst, allowed, fault }) =>
      `  ${op.padEnd(26)}${errorText(worst).padEnd(9)}${errorText(allowed).padEnd(9)}${
        fault === undefined ? "ok" : `WRONG: ${fault}`
      }`
    ),
    "",
    line("advice", advice.length === 0 ? "none: all is well" : ""),
    ...advice.map((text) => `  - ${text}`),
  ].map((text) => text.trimEnd()).join("\n");
}

function adapterText(adapter: Findings["adapter"]): string {
  if (typeof adapter === "string") return adapter;
  return adapter.software ? `${adapter.name} (software)` : adapter.name;
}

function roomText({ bytes, refused }: NonNullable<Findings["room"]>): string {
  return `${refused ? "" : "at least "}${formatBytes(bytes)} can be had`;
}

const errorText = (error: number) => error === 0 ? "0" : error.toExponential(1);

/** WebGPU's own names stay as they are: they are what one looks up. */
const labelOf = (name: string) => name.replaceAll("_", " ");

function valueText(name: string, value: Findings["device"]["details"][string]): string {
  if (typeof value === "object") return value.join(", ") || "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  const isBytes = /(BufferSize|BindingSize|StorageSize)$/.test(name) && typeof value === "number";
  return isBytes ? formatBytes(value) : String(value);
}

function jsonOf({ machine, adapter, device, room, results, ...rest }: Report) {
  return {
    version,
    machine: {
      system: machine.system,
      deno: machine.deno,
      processors: machine.processors,
      memory_bytes: machine.memoryBytes,
      available_bytes: machine.availableBytes,
      vulkan_drivers: machine.vulkanDrivers,
      nvidia_driver: machine.nvidiaDriver ?? null,
    },
    adapter,
    device: { kind: device.kind, name: device.name, ...device.details },
    max_tensor_bytes: rest.maxTensorBytes,
    room: room ?? null,
    kernels: results.map(({ op, worst, allowed, fault }) => ({
      op,
      worst_error: Number.isFinite(worst) ? worst : null,
      allowed_error: allowed,
      right: fault === undefined,
      fault: fault ?? null,
    })),
    healthy: rest.wrong.length === 0,
    advice: rest.advice,
  };
}
