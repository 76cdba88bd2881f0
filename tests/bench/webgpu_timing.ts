/**
 * The time of one node on the WebGPU device, without the planner and without copies: inputs and
 * outputs stay where they are.
 */

import {
  bytesOf,
  normals,
  type Op,
  type OpContext,
  sizeOf,
  type Spec,
} from "../../core/graph/mod.ts";
import type { Plan, PlanStep, Storage } from "../../core/plan/types.ts";
import type { GpuLowering, WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import type { GpuKernel } from "../../kernels/lowering.ts";

/** A node to time: `values` for inputs that may not be just any numbers. */
export interface Timed extends OpContext {
  readonly op: Op;
  readonly values?: Readonly<Record<number, ArrayLike<number>>>;
}

/**
 * Milliseconds of one run of the node by `kernel`: the slope between few runs and many, so that
 * what a wait costs drops out.
 */
export async function timeNode(
  device: WebgpuDevice,
  node: Timed,
  kernel: GpuKernel,
  budgetMs = device.software ? 60 : 15,
): Promise<number> {
  const plan = planOf(device, node, kernel);
  using state = device.createState(plan.state);
  node.inputs.forEach(({ shape }, i) => {
    state.write(`x${i}`, node.values?.[i] ?? noise(sizeOf(shape)));
  });
  using executable = await device.compile(plan, state);
  const run = async (times: number) => {
    const start = performance.now();
    executable.run({}, times);
    await device.idle();
    return performance.now() - start;
  };
  await run(1); // drivers compile at the first dispatch
  const wait = waits.get(device) ?? Math.min(await run(0), await run(0), await run(0));
  waits.set(device, wait);
  let many = 2;
  for (let ms = await run(many) - wait; ms < budgetMs && many < 4096; ms = await run(many) - wait) {
    many *= Math.min(16, Math.max(2, Math.ceil(budgetMs / Math.max(ms, 0.1))));
  }
  const few = Math.ceil(many / 4);
  let short = Infinity, long = Infinity;
  for (let round = 0; round < 3; round++) {
    short = Math.min(short, await run(few));
    long = Math.min(long, await run(many));
  }
  return (long - short) / (many - few);
}

/** What it costs to wait for nothing, by device: in Deno a timer of 10 ms. */
const waits = new WeakMap<WebgpuDevice, number>();

/**
 * Zeros would flatter a GPU: its clock rises when no bits flip. A short period is as good as none.
 */
function noise(size: number): Float32Array {
  const period = normals(1, "bench", Math.min(size, 65_537)), out = new Float32Array(size);
  for (let at = 0; at < size; at += period.length) {
    out.set(period.subarray(0, Math.min(period.length, size - at)), at);
  }
  return out;
}

function planOf(device: WebgpuDevice, node: Timed, kernel: GpuKernel): Plan<GpuLowering> {
  const { op, inputs, outputs, attrs } = node, { target } = device;
  const context = { inputs, outputs, attrs };
  let arena = 0;
  const take = (bytes: number): Storage => {
    // No tensor crosses from one buffer into the next.
    const size = Math.ceil(Math.max(bytes, 1) / target.alignment) * target.alignment;
    if (
      Math.floor(arena / target.slabBytes) !== Math.floor((arena + size - 1) / target.slabBytes)
    ) {
      arena = Math.ceil(arena / target.slabBytes) * target.slabBytes;
    }
    arena += size;
    return { space: "arena", offset: arena - size };
  };
  const lowering = target.lower({ ...op, kernels: [kernel] } as Op, context);
  const step: PlanStep<GpuLowering> = {
    op,
    attrs,
    context,
    inputs: inputs.map((_, index) => ({ space: "state", index })),
    outputs: outputs.map((spec) => take(bytesOf(spec))),
    scratch: lowering.scratchBytes.map(take),
    lowered: lowering.lowered,
    path: "",
  };
  return {
    state: inputs.map((spec: Spec, i) => ({ ...spec, name: `x${i}` })),
    uploads: [],
    host: [],
    constants: [],
    steps: [step],
    outputs: [],
    totals: {
      stateBytes: 0,
      arenaBytes: arena,
      uploadBytes: 0,
      constantBytes: 0,
      peakBytes: arena,
      flops: 0,
      bytesMoved: 0,
      dispatches: lowering.dispatches,
    },
  };
}
