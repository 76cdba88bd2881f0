/**
 * `quern pretrain --dry-run`: what a run takes, on a device that need not be here.
 *
 * @module
 */
import { exitCodes, UserError } from "../core/io/errors.ts";
import type { Target } from "../core/plan/mod.ts";
import type { DerivedNumber, DryRun, ResolvedConfig } from "../core/train/mod.ts";
import type { DeviceChoice } from "./device_options.ts";
import { formatBytes, formatCount, formatQuantity } from "./ui/numbers.ts";

/** Plans the run and prints its sizes. Throws after that if the device cannot hold it. */
export async function printDryRun(
  config: ResolvedConfig,
  derived: readonly DerivedNumber[],
  choice: DeviceChoice & { readonly form: "json" | "text" },
): Promise<void> {
  const { dryRun } = await import("../core/train/mod.ts");
  const target = await targetOf(choice), found = dryRun(config, target);
  const device = choice.device === "webgpu" ? "webgpu" : "cpu";
  if (choice.form === "json") console.log(JSON.stringify({ device, ...namesOf(found) }));
  else {
    console.log([
      describe(config, found, device),
      ...(device === "webgpu" ? [assumption(target)] : []),
      ...derivedLines(derived),
    ].join("\n"));
  }
  if (device === "webgpu" || found.totalBytes <= target.slabBytes) return; // the cpu device has one slab
  throw new UserError(
    `the cpu device has ${formatBytes(target.slabBytes)}, the run needs ${
      formatBytes(found.totalBytes)
    }`,
    {
      hint: "use a larger accumulation, model.remat=true, a smaller sequence_length, or a GPU",
      exitCode: exitCodes.outOfMemory,
    },
  );
}

/** What only the GPU itself can say, and what stands for it. */
function assumption({ maxTensorBytes }: Target): string {
  return `assumed of the GPU    tensors of up to ${
    formatBytes(maxTensorBytes)
  }, and memory for all of this`;
}

/** What the config left open, with the rule that filled it. */
export function derivedLines(derived: readonly DerivedNumber[]): string[] {
  return derived.map(({ name, value, rule }) => `${name} ${value} = ${rule}`);
}

/** No device is opened; `auto` stands for the cpu device, as what a GPU grants is only known once it is open. */
async function targetOf({ device, threads, blas }: DeviceChoice): Promise<Target> {
  if (device === "webgpu") {
    const { assumedLimits, webgpuTarget } = await import("../core/device/webgpu/mod.ts");
    return webgpuTarget(assumedLimits);
  }
  const { cpuTarget, hasRelaxedSimd } = await import("../core/device/cpu/target.ts");
  const { findBlas } = await import("../core/device/cpu/blas.ts");
  const library = blas === "off" ? undefined : findBlas();
  library?.close();
  return cpuTarget({
    threads: threads ?? navigator.hardwareConcurrency,
    relaxed: hasRelaxedSimd(),
    blas: library !== undefined,
  });
}

function namesOf(found: DryRun): Record<string, unknown> {
  return {
    parameters: found.params,
    parts: found.byPart.map(({ part, total, byRole }) => ({ part, total, by_role: byRole })),
    roles: found.byRole.map(({ role, tensors, total, weightDecay }) => ({
      role,
      tensors,
      total,
      weight_decay: weightDecay,
    })),
    tokens_per_update: found.tokensPerUpdate,
    flops_per_token: Math.round(found.flopsPerToken),
    dispatches: found.dispatches,
    memory: Object.fromEntries(found.memory.map(({ kind, bytes }) => [kind, bytes])),
    total_bytes: found.totalBytes,
    checkpoint_bytes: found.checkpointBytes,
    disk_bytes: found.diskBytes,
  };
}

function describe(config: ResolvedConfig, found: DryRun, device: string): string {
  const { batch_size, sequence_length, accumulation, steps } = config;
  const total = (n: number) => formatCount(n).padStart(15);
  const parts = found.byPart.map(({ part, total: n, byRole }) =>
    `  ${part.padEnd(20)}${total(n)}  ${
      Object.entries(byRole).map(([role, n]) => `${role} ${formatCount(n)}`).join(", ")
    }`
  );
  const roles = found.byRole.map(({ role, tensors, total: n, weightDecay }) =>
    `  ${role.padEnd(20)}${total(n)}  in ${
      formatCount(tensors)
    } tensors, weight decay ${weightDecay}`
  );
  const memory = found.memory.map(({ kind, bytes }) =>
    `  ${kind.padEnd(20)}${formatBytes(bytes).padStart(15)}`
  );
  const parted = accumulation > 1 ? ` in ${accumulation} parts` : "";
  return [
    `parameters            ${total(found.params)}`,
    ...parts,
    "optimizer groups",
    ...roles,
    `an update             ${batch_size} rows of ${sequence_length}${parted}: ${
      formatCount(found.tokensPerUpdate)
    } tokens, ${formatQuantity(found.flopsPerToken)}FLOPs a token, ${
      formatCount(found.dispatches)
    } dispatches`,
    `the run               ${formatCount(steps)} updates: ${
      formatQuantity(steps * found.tokensPerUpdate)
    } tokens, ${formatQuantity(steps * found.tokensPerUpdate * found.flopsPerToken)}FLOPs`,
    `memory on ${device.padEnd(12)}${formatBytes(found.totalBytes).padStart(15)}`,
    ...memory,
    `disk                  ${formatBytes(found.diskBytes).padStart(15)}  checkpoints of ${
      formatBytes(found.checkpointBytes)
    }`,
  ].join("\n");
}
