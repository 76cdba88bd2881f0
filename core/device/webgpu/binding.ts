/**
 * How a plan's passes become dispatches: their jobs, the executable's buffers, and the bind groups
 * between them.
 */

import { bytesOf, type Spec } from "../../graph/mod.ts";
import type { Plan, PlanStep, Storage } from "../../plan/types.ts";
import { foldGrid, type GpuPass, input, type Operand, output } from "../../../kernels/lowering.ts";
import type { Range, WebgpuDevice } from "./device.ts";
import { type BindingTypes, uniformBytes } from "./header.ts";
import { alignUp } from "./memory.ts";
import type { Pipeline } from "./pipelines.ts";
import type { GpuStateStore } from "./state.ts";
import { type GpuLowering, specOf } from "./target.ts";

export type GpuPlan = Plan<GpuLowering>;

/** One dispatch, ready to be encoded. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly [number, number, number];
  /** FLOPs, with bytes at eight each: what the pace counts. */
  readonly work: number;
  /** Op and kernel, and where in the model: for people. */
  readonly label: string;
  readonly path: string;
}

/** Memory of one executable. */
export interface Buffers {
  readonly slabs: readonly GPUBuffer[];
  readonly uploads: GPUBuffer | undefined;
  readonly constants: GPUBuffer | undefined;
  readonly ring: GPUBuffer | undefined;
  readonly uniforms: GPUBuffer | undefined;
  /** Where each job's numbers begin in `uniforms`. */
  readonly uniformOffsets: readonly number[];
}

/** A pass with all that binding it needs. */
export interface Job {
  readonly label: string;
  readonly pass: GpuPass;
  readonly types: BindingTypes;
  readonly step: PlanStep<GpuLowering>;
  readonly work: number;
}

export function jobsOf(step: PlanStep<GpuLowering>, maxGroups: number): Job[] {
  const { op, context, lowered } = step;
  const label = `${op.name} (${lowered.kernel})`;
  const passes = [...copiesBefore(step, maxGroups), ...lowered.passes];
  const { flops, bytes } = op.cost?.(context) ??
    {
      flops: 0,
      bytes: [...context.inputs, ...context.outputs].reduce((sum, x) => sum + bytesOf(x), 0),
    };
  return passes.map((pass) => ({
    label,
    pass,
    step,
    work: (flops + 8 * bytes) / passes.length,
    types: Object.fromEntries(
      Object.entries(pass.bindings).map(([name, operand]) => [
        name,
        pass.wgsl === copyWords ? "u32" : specOf(operand, context, lowered.scratch).dtype,
      ]),
    ),
  }));
}

const copyWords = `
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i < params.words) { store_after(i, load_before(i)); }
}`;

/**
 * Kernels of in-place ops find the old values in their output; where the planner gave it other
 * memory, they are brought there.
 */
function copiesBefore(
  { op, context, inputs, outputs }: PlanStep<GpuLowering>,
  maxGroups: number,
): GpuPass[] {
  return Object.entries(op.inplace ?? {}).flatMap(([to, from]) => {
    const words = bytesOf(context.outputs[Number(to)]) / 4;
    if (sameStorage(outputs[Number(to)], inputs[from]) || words === 0) return [];
    return [{
      wgsl: copyWords,
      bindings: { before: input(from), after: output(Number(to)) },
      uints: { words },
      grid: foldGrid(Math.ceil(words / 256), maxGroups),
    }];
  });
}

function sameStorage(a: Storage, b: Storage): boolean {
  const place = (s: Storage) => s.space === "state" ? s.index : s.offset;
  return a.space === b.space && place(a) === place(b);
}

export function allocateBuffers(
  device: WebgpuDevice,
  plan: GpuPlan,
  ringBytes: number,
  jobs: readonly Job[],
): Buffers {
  const { STORAGE, COPY_SRC, COPY_DST, UNIFORM } = GPUBufferUsage;
  const { totals } = plan, { slabBytes } = device.target, made: GPUBuffer[] = [];
  const make = (bytes: number, usage: number, purpose: string) => {
    if (bytes === 0) return undefined;
    const buffer = device.memory.allocate(bytes, usage, purpose);
    made.push(buffer);
    return buffer;
  };
  try {
    const slabs: GPUBuffer[] = [];
    for (let at = 0; at < totals.arenaBytes; at += slabBytes) {
      const bytes = Math.min(slabBytes, totals.arenaBytes - at);
      slabs.push(make(bytes, STORAGE | COPY_SRC | COPY_DST, "activations")!);
    }
    const uploads = make(totals.uploadBytes, STORAGE | COPY_SRC | COPY_DST, "inputs");
    const constants = make(totals.constantBytes, STORAGE | COPY_SRC | COPY_DST, "constants");
    const ring = make(ringBytes, COPY_SRC | COPY_DST, "the ring of outputs");
    const { bytes, offsets: uniformOffsets } = layUniforms(jobs);
    const uniforms = make(bytes.length, UNIFORM | COPY_DST, "parameters of kernels");
    if (uniforms) device.gpu.queue.writeBuffer(uniforms, 0, bytes);
    for (const { offset, values } of plan.constants) {
      const padded = new Uint8Array(alignUp(values.byteLength, 4));
      padded.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      device.gpu.queue.writeBuffer(constants!, offset, padded);
    }
    return { slabs, uploads, constants, ring, uniforms, uniformOffsets };
  } catch (error) {
    made.forEach((buffer) => device.memory.release(buffer));
    throw error;
  }
}

/** All passes' numbers in one buffer, each at its own aligned place. */
function layUniforms(jobs: readonly Job[]): { bytes: Uint8Array<ArrayBuffer>; offsets: number[] } {
  const parts = jobs.map(({ pass }) => uniformBytes(pass)), offsets: number[] = [];
  let end = 0;
  for (const part of parts) {
    offsets.push(end);
    end += alignUp(part.length);
  }
  const bytes = new Uint8Array(end);
  parts.forEach((part, i) => bytes.set(part, offsets[i]));
  return { bytes, offsets };
}

export type Locate = (storage: Storage, spec: Spec) => Range;

/** Storage → buffer and offset. */
export function locator(
  device: WebgpuDevice,
  plan: GpuPlan,
  state: GpuStateStore,
  buffers: Buffers,
): Locate {
  const states = plan.state.map((spec) => state.bufferFor(spec)), { slabBytes } = device.target;
  return (storage, spec) => {
    const bytes = bytesOf(spec);
    if (storage.space === "state") return { buffer: states[storage.index], offset: 0, bytes };
    if (storage.space === "arena") {
      const slab = Math.floor(storage.offset / slabBytes),
        offset = storage.offset - slab * slabBytes;
      return { buffer: buffers.slabs[slab], offset, bytes };
    }
    const buffer = storage.space === "upload" ? buffers.uploads! : buffers.constants!;
    return { buffer, offset: storage.offset, bytes };
  };
}

export function bindJobs(
  device: WebgpuDevice,
  jobs: readonly Job[],
  pipelines: readonly Pipeline[],
  { uniforms, uniformOffsets }: Buffers,
  locate: Locate,
): Dispatch[] {
  return jobs.map(({ label, pass, step, work }, at) => {
    const { pipeline, groupLayout } = pipelines[at];
    const entries = Object.values(pass.bindings).map((operand, binding) => {
      const spec = specOf(operand, step.context, step.lowered.scratch);
      const { buffer, offset, bytes } = locate(storageOf(operand, step), spec);
      // Whole vectors, also where a small tensor is bound as vec4: buffers end at multiples of 256.
      return { binding, resource: { buffer, offset, size: alignUp(Math.max(bytes, 1), 16) } };
    });
    const size = uniformBytes(pass).length;
    if (size > 0) {
      const resource = { buffer: uniforms!, offset: uniformOffsets[at], size };
      entries.push({ binding: entries.length, resource });
    }
    const group = device.gpu.createBindGroup({ label, layout: groupLayout, entries });
    return { pipeline, group, grid: pass.grid, work, label, path: step.path };
  });
}

function storageOf({ from, index }: Operand, step: PlanStep<GpuLowering>): Storage {
  return { input: step.inputs, output: step.outputs, scratch: step.scratch }[from][index];
}

export function releaseBuffers(
  device: WebgpuDevice,
  { slabs, uploads, constants, ring, uniforms }: Buffers,
): void {
  for (const buffer of [...slabs, uploads, constants, ring, uniforms]) {
    if (buffer) device.memory.release(buffer);
  }
}
