/**
 * Kernels without the planner: every node of a graph is a step of its own and every tensor has
 * memory of its own, so that what a test sees is the op's kernel and nothing else. Works for any
 * device.
 *
 * @module
 */

import { bytesOf, type Node, nodesOf, type Spec, type Tensor } from "../core/graph/mod.ts";
import type { HostStep, NamedSpec, Plan, PlanStep, Storage, Target } from "../core/plan/types.ts";
import type { Device, HostArray } from "../core/device/types.ts";

/**
 * The values of some tensors, computed by `device` from the values of the placeholders that they
 * depend on.
 */
export async function runGraph(
  device: Device,
  outputs: readonly Tensor[],
  inputs: ReadonlyMap<Tensor, ArrayLike<number>> = new Map(),
  target: Target = device.target,
): Promise<HostArray[]> {
  const plan = plainPlan(outputs, target);
  using state = device.createState([]);
  using executable = await device.compile(plan, state, { ring: 1 });
  const given = [...inputs].filter(([{ node }]) =>
    plan.uploads.some(({ name }) => name === inputName(node))
  );
  executable.run(Object.fromEntries(given.map(([{ node }, values]) => [inputName(node), values])));
  const [result] = await executable.outputs();
  return outputs.map((_, i) => result[`out.${i}`]);
}

const inputName = (node: Node) => `in.${node.id}`;

/** The plan that does nothing clever. */
export function plainPlan<L>(outputs: readonly Tensor[], target: Target<L>): Plan<L> {
  const placed = new Map<Tensor, Storage>();
  const uploads: (NamedSpec & { offset: number })[] = [], uploadOf = new Map<Tensor, number>();
  const constants: Plan["constants"][number][] = [], host: HostStep[] = [];
  const steps: PlanStep<L>[] = [];
  let arena = 0, uploadBytes = 0, constantBytes = 0, dispatches = 0;

  const take = (bytes: number): Storage => {
    const size = aligned(bytes + target.slack, target.alignment);
    const slab = Math.floor(arena / target.slabBytes);
    if (arena + size > (slab + 1) * target.slabBytes) arena = (slab + 1) * target.slabBytes;
    arena += size;
    return { space: "arena", offset: arena - size };
  };
  const upload = (tensor: Tensor, name: string) => {
    const offset = uploadBytes;
    uploadBytes += aligned(bytesOf(tensor) + target.slack, target.alignment);
    uploadOf.set(tensor, uploads.push({ ...plain(tensor), name, offset }) - 1);
    placed.set(tensor, { space: "upload", offset });
  };

  for (const node of nodesOf(outputs)) {
    const { op, attrs, path } = node, [out] = node.outputs;
    const context = { inputs: node.inputs.map(plain), outputs: node.outputs.map(plain), attrs };
    if (op.placeholder) upload(out, inputName(node));
    else if (op.name === "constant") {
      const offset = constantBytes;
      constantBytes += aligned(bytesOf(out) + target.slack, target.alignment);
      constants.push({ ...plain(out), offset, values: attrs.values as ArrayBufferView });
      placed.set(out, { space: "constant", offset });
    } else if (op.alias) placed.set(out, placed.get(node.inputs[0])!);
    else if (op.host) {
      node.outputs.forEach((result, i) => upload(result, `host.${node.id}.${i}`));
      const indices = (tensors: readonly Tensor[]) => tensors.map((t) => uploadOf.get(t)!);
      host.push({ op, context, inputs: indices(node.inputs), outputs: indices(node.outputs) });
    } else {
      node.outputs.forEach((result) => placed.set(result, take(bytesOf(result))));
      const lowered = target.lower(op, context);
      dispatches += lowered.dispatches;
      steps.push({
        op,
        attrs,
        context,
        path,
        inputs: node.inputs.map((t) => placed.get(t)!),
        outputs: node.outputs.map((t) => placed.get(t)!),
        scratch: lowered.scratchBytes.map(take),
        lowered: lowered.lowered,
      });
    }
  }
  return {
    state: [],
    uploads,
    host,
    constants,
    steps,
    outputs: outputs.map((tensor, i) => ({
      ...plain(tensor),
      name: `out.${i}`,
      storage: placed.get(tensor)!,
    })),
    totals: {
      stateBytes: 0,
      arenaBytes: arena,
      uploadBytes,
      constantBytes,
      peakBytes: arena + uploadBytes + constantBytes,
      flops: 0,
      bytesMoved: 0,
      dispatches,
    },
  };
}

const aligned = (bytes: number, alignment: number) =>
  Math.ceil(Math.max(bytes, 1) / alignment) * alignment;

const plain = ({ shape, dtype }: Spec): Spec => ({ shape, dtype });

/**
 * The largest difference of two results, relative to 1 or the expected value's size; NaN must meet
 * NaN.
 */
export function worstError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i], b = expected[i];
    if (Object.is(a, b) || a === b) continue;
    const error = Math.abs(a - b) / Math.max(1, Math.abs(b));
    if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
  }
  return worst;
}
