/**
 * What the planner knows of a WebGPU device, made from limits alone, and how nodes become
 * dispatches.
 */

import { bytesOf, type Op, type OpContext, sizeOf, type Spec } from "../../graph/mod.ts";
import type { Target } from "../../plan/types.ts";
import { fusedOp } from "../../../kernels/fused.ts";
import type { GpuKernel, GpuPass, GpuTarget, Kernel, Operand } from "../../../kernels/lowering.ts";
import { programOf } from "../../../kernels/program_of.ts";

/** A node as dispatches. `scratch` is in the order of the step's scratch storage. */
export interface GpuLowering {
  readonly kernel: string;
  readonly passes: readonly GpuPass[];
  readonly scratch: readonly Spec[];
}

/** What kernels and buffers may count on. */
export type WebgpuLimits = GpuTarget & { readonly maxBufferBytes: number };

/**
 * Names of kernels to take instead of the default, by op: what the autotuner found, or what a test
 * wants to see.
 */
export type Variants = Readonly<Record<string, string>>;

export interface WebgpuTarget extends Target<GpuLowering> {
  readonly kind: "webgpu";
  readonly limits: WebgpuLimits;
}

// The largest that WebGPU lets a device demand for a storage binding's offset; uniforms likewise.
export const ALIGNMENT = 256;

/** Limits that any hardware adapter met so far exceeds: for a dry run without a device. */
export const assumedLimits: WebgpuLimits = {
  maxWorkgroupStorageBytes: 32768,
  maxInvocations: 256,
  maxWorkgroupsPerDimension: 65535,
  maxBindingBytes: 2 ** 31 - ALIGNMENT,
  maxBufferBytes: 2 ** 31 - ALIGNMENT,
  maxStorageBuffers: 16,
  f16: false,
  subgroups: false,
  subgroupSizes: [0, 0],
};

/** A target from limits alone. */
export function webgpuTarget(
  limits: WebgpuLimits,
  variants: Variants = {},
): WebgpuTarget {
  // A slab beyond 2 GiB gains nothing and some drivers cannot address it.
  const slabBytes = alignDown(Math.min(limits.maxBufferBytes, 2 ** 31 - ALIGNMENT));
  return {
    kind: "webgpu",
    limits,
    alignment: ALIGNMENT,
    slack: 0,
    slabBytes,
    maxTensorBytes: Math.min(alignDown(limits.maxBindingBytes), slabBytes),
    // Some drivers bind a million buffers; a chain that reads more than a few is better cut.
    maxOperands: Math.min(limits.maxStorageBuffers, 16),
    // Enough for what belongs together; more make slow compiles and long registers.
    maxMembers: 96,
    // WGSL gives no promise about bindings that overlap: a compiler may read an operand again after
    // the store.
    aliasing: false,
    epilogues: true,
    lower(op, context) {
      const lowered = lowerNode(op, context, limits, variants);
      return {
        lowered,
        scratchBytes: lowered.scratch.map(bytesOf),
        dispatches: lowered.passes.length,
      };
    },
  };
}

const alignDown = (bytes: number) => Math.floor(bytes / ALIGNMENT) * ALIGNMENT;

function lowerNode(op: Op, context: OpContext, limits: GpuTarget, variants: Variants): GpuLowering {
  if (context.outputs.every(({ shape }) => sizeOf(shape) === 0)) {
    return { kernel: "nothing", passes: [], scratch: [] };
  }
  const { kernels, node } = formsOf(op, context);
  const fitting = kernels.filter(({ when }) => when?.(node, limits) ?? true);
  const kernel = fitting.find(({ name }) => name === variants[op.name]) ?? fitting[0];
  if (!kernel) {
    const known = kernels.map(({ name }) => name).join(", ") || "none";
    throw new Error(`${op.name}: no kernel for this device takes these shapes (kernels: ${known})`);
  }
  const scratch = kernel.scratch?.(node, limits) ?? [];
  const passes = kernel.passes(node, limits);
  passes.forEach((pass) =>
    checkPass(`${op.name} (${kernel.name})`, pass, { context: node, scratch, limits })
  );
  return { kernel: kernel.name, passes, scratch };
}

/**
 * Kernels of an op and the node as they see it: element-wise work and copies run as fused programs
 * of one node.
 */
function formsOf(
  op: Op,
  context: OpContext,
): { kernels: readonly GpuKernel[]; node: OpContext } {
  const program = programOf(op, context);
  return program
    ? { kernels: fusedOp.kernels ?? [], node: { ...context, attrs: { program } } }
    : { kernels: (op as Kernel).kernels ?? [], node: context };
}

/** Names of the kernels that a device may take for a node, default first. */
export function kernelNames(op: Op, context: OpContext, limits: GpuTarget): string[] {
  const { kernels, node } = formsOf(op, context);
  return kernels.filter(({ when }) => when?.(node, limits) ?? true).map(({ name }) => name);
}

/** Shape and type of what a pass binds. */
export function specOf(operand: Operand, context: OpContext, scratch: readonly Spec[]): Spec {
  const specs = { input: context.inputs, output: context.outputs, scratch }[operand.from];
  const spec = specs[operand.index];
  if (!spec) throw new Error(`a pass binds ${operand.from} ${operand.index}, which does not exist`);
  return spec;
}

/** What drivers answer with a lost device, or not at all, is refused here with its name. */
function checkPass(
  name: string,
  pass: GpuPass,
  { context, scratch, limits }: {
    context: OpContext;
    scratch: readonly Spec[];
    limits: GpuTarget;
  },
): void {
  const bindings = Object.entries(pass.bindings);
  if (bindings.length > limits.maxStorageBuffers) {
    throw new Error(
      `${name}: binds ${bindings.length} buffers of at most ${limits.maxStorageBuffers}`,
    );
  }
  if ((pass.workgroupBytes ?? 0) > limits.maxWorkgroupStorageBytes) {
    throw new Error(
      `${name}: wants ${pass.workgroupBytes} bytes of workgroup memory of ${limits.maxWorkgroupStorageBytes}`,
    );
  }
  if (
    pass.grid.some((n) => !Number.isInteger(n) || n < 1 || n > limits.maxWorkgroupsPerDimension)
  ) {
    throw new Error(`${name}: a grid of ${pass.grid.join(" × ")} workgroups cannot be dispatched`);
  }
  for (const [binding, operand] of bindings) {
    const bytes = bytesOf(specOf(operand, context, scratch));
    if (bytes > limits.maxBindingBytes) {
      throw new Error(
        `${name}: ${binding} has ${bytes} bytes and the device binds at most ${limits.maxBindingBytes}`,
      );
    }
  }
}
