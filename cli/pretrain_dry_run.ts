/**
 * `quern pretrain --dry-run`: what a run takes, on a device that need not be here.
 *
 * @module
 */
import { exitCodes, UserError } from "../core/io/errors.ts";
import type { Target } from "../core/plan/mod.ts";
import { plural } from "../core/io/words.ts";
import type { DryRun, ResolvedConfig } from "../core/train/mod.ts";
import type { DeviceChoice } from "./device_options.ts";
import { formatBytes, formatCount, formatQuantity } from "./ui/numbers.ts";

/** Plans the run and prints its sizes. Throws after that if the device cannot hold it. */
export async function printDryRun(
  config: ResolvedConfig,
  notes: readonly string[],
  choice: DeviceChoice & { readonly form: "json" | "text" },
): Promise<void> {
  const { dryRun, roomOf, sizeAdvice, withFittingSizes } = await import("../core/train/mod.ts");
  const { target, limits } = await targetOf(choice);
  const found = orElse(
    () => dryRun(config, target),
    (error) => withFittingSizes(error, config, target),
  );
  const device = target.kind;
  if (choice.form === "json") console.log(JSON.stringify({ device, ...namesOf(found), ...limits }));
  else {
    console.log([
      describe(config, found, device),
      ...(limits ? [limitsLine(target, limits.limits_of)] : []),
      ...notes,
    ].join("\n"));
  }
  if (device === "webgpu" || found.totalBytes <= target.slabBytes) return; // the cpu device has one slab
  throw new UserError(
    `the cpu device has ${formatBytes(target.slabBytes)}, the run needs ${
      formatBytes(found.totalBytes)
    }`,
    {
      hint: `${
        sizeAdvice(config, target, roomOf(target))
      }; model.remat=true needs less, too, and a GPU may have more`,
      exitCode: exitCodes.outOfMemory,
    },
  );
}

function orElse<T>(make: () => T, errorFor: (error: unknown) => unknown): T {
  try {
    return make();
  } catch (error) {
    throw errorFor(error);
  }
}

/** Whose limits the plan keeps to. No GPU says how much memory it has. */
function limitsLine({ maxTensorBytes, maxOperands }: Target, whose: string): string {
  return `limits                ${
    whose === "assumed" ? "assumed, as no adapter is here" : `of ${whose}`
  }: tensors of up to ${formatBytes(maxTensorBytes)}, ${
    plural(maxOperands, "buffer")
  } a kernel; its memory is not known`;
}

/** A target, and of a GPU whose limits it has. */
interface DryTarget {
  readonly target: Target;
  readonly limits?: { readonly limits_of: string };
}

/** `auto` stands for the cpu device; of a GPU the adapter that is here is asked. */
async function targetOf({ device, threads, blas }: DeviceChoice): Promise<DryTarget> {
  if (device === "webgpu") {
    const { assumedLimits, grantedLimits, webgpuTarget } = await import(
      "../core/device/webgpu/mod.ts"
    );
    const granted = await grantedLimits();
    return {
      target: webgpuTarget(granted?.limits ?? assumedLimits),
      limits: { limits_of: granted?.name ?? "assumed" },
    };
  }
  const { cpuTarget, hasRelaxedSimd } = await import("../core/device/cpu/target.ts");
  const { findBlas } = await import("../core/device/cpu/blas.ts");
  const library = blas === "off" ? undefined : findBlas();
  library?.close();
  const target = cpuTarget({
    threads: threads ?? navigator.hardwareConcurrency,
    relaxed: hasRelaxedSimd(),
    blas: library !== undefined,
  });
  return { target };
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
    `  ${role.padEnd(20)}${total(n)}  in ${plural(tensors, "tensor")}, weight decay ${weightDecay}`
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
    `an update             ${plural(batch_size, "row")} of ${sequence_length}${parted}: ${
      plural(found.tokensPerUpdate, "token")
    }, ${formatQuantity(found.flopsPerToken)}FLOPs a token, ${
      formatCount(found.dispatches)
    } dispatches`,
    `the run               ${plural(steps, "update")}: ${
      formatQuantity(steps * found.tokensPerUpdate)
    } tokens, ${formatQuantity(steps * found.tokensPerUpdate * found.flopsPerToken)}FLOPs`,
    `memory on ${device.padEnd(12)}${formatBytes(found.totalBytes).padStart(15)}`,
    ...memory,
    `disk                  ${formatBytes(found.diskBytes).padStart(15)}  checkpoints of ${
      formatBytes(found.checkpointBytes)
    }`,
  ].join("\n");
}
