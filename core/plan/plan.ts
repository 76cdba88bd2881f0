/** From a graph to a plan: simplify, fuse, order, place. Nothing is allocated. */

import { bytesOf, type Cost, type Graph, type Spec, type Tensor } from "../graph/mod.ts";
import { PlanError } from "./error.ts";
import { current, fuse } from "./fuse.ts";
import { placeInputs } from "./inputs.ts";
import { place } from "./place.ts";
import { schedule } from "./schedule.ts";
import { simplify, type Use } from "./simplify.ts";
import type { Plan, PlanStep, Target } from "./types.ts";

export interface PlanOptions {
  /** Off: every node is its own kernel. For tests that compare. */
  readonly fuse?: boolean;
}

export function planGraph<L>(graph: Graph, target: Target<L>, options: PlanOptions = {}): Plan<L> {
  const simplified = simplify(graph);
  const wanted = [...graph.outputs, ...graph.updates].map(({ value }) => simplified.use(value)!);
  const { nodes, replaced } = fuse(simplified.nodes, wanted, {
    maxOperands: target.maxOperands,
    maxMembers: target.maxMembers,
    epilogues: target.epilogues,
    fuse: options.fuse ?? true,
  });
  const use = (tensor: Tensor): Use | undefined => {
    const found = simplified.use(tensor);
    return found && current(found, replaced);
  };
  const room = (spec: Spec) =>
    Math.ceil((bytesOf(spec) + target.slack) / target.alignment) * target.alignment;

  const inputs = placeInputs(graph, nodes, use, room);
  const scheduled = schedule({
    graph,
    nodes,
    use,
    storage: inputs.storage,
    state: inputs.state,
    aliasing: target.aliasing,
  });
  checkSizes(scheduled.steps, inputs, target);
  const lowered = scheduled.steps.map(({ node, context }) => target.lower(node.op, context));
  const { storage, scratch, arenaBytes } = place({
    schedule: scheduled,
    inputs: inputs.storage,
    results: scheduled.results.map(({ value }) => value),
    scratchBytes: lowered.map(({ scratchBytes }) => scratchBytes),
    target,
  });
  const steps = scheduled.steps.map(({ node, context }, i): PlanStep<L> => ({
    op: node.op,
    attrs: node.attrs,
    context,
    inputs: node.inputs.map(({ value }) => storage.get(value)!),
    outputs: node.outputs.map((value) => storage.get(value)!),
    scratch: scratch[i],
    lowered: lowered[i].lowered,
    path: node.path,
  }));
  const { state, uploads, host, constants, uploadBytes, constantBytes } = inputs;
  const outputs = graph.outputs.map(({ name }, i) => {
    const { value, spec } = scheduled.results[i];
    return { name, ...spec, storage: storage.get(value)! };
  });
  const costs = steps.map(({ op, context }): Cost => op.cost?.(context) ?? { flops: 0, bytes: 0 });
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  const stateBytes = sum(state.map(room));
  return {
    state,
    uploads,
    host,
    constants,
    steps,
    outputs,
    totals: {
      stateBytes,
      arenaBytes,
      uploadBytes,
      constantBytes,
      peakBytes: stateBytes + arenaBytes + uploadBytes + constantBytes,
      flops: sum(costs.map(({ flops }) => flops)),
      bytesMoved: sum(costs.map(({ bytes }) => bytes)),
      dispatches: sum(lowered.map(({ dispatches }) => dispatches)),
    },
  };
}

/** Refuses what the device cannot bind, before anything is allocated. */
function checkSizes(
  steps: ReturnType<typeof schedule>["steps"],
  { state, uploads }: ReturnType<typeof placeInputs>,
  { maxTensorBytes }: Target<unknown>,
): void {
  // Whole bytes, as the two may differ by little.
  const bytesText = (bytes: number) => `${bytes.toLocaleString("en")} bytes`;
  const check = (spec: Spec, what: string, advice: string) => {
    if (bytesOf(spec) <= maxTensorBytes) return;
    throw new PlanError(
      `${what} a tensor [${spec.shape.join(", ")}] of ${bytesText(bytesOf(spec))}, more than the ${
        bytesText(maxTensorBytes)
      } that this device can bind; ${advice}`,
    );
  };
  for (const entry of state) {
    check(entry, `${entry.name} is`, "use a smaller vocabulary or hidden_size, or another device");
  }
  for (const entry of uploads) {
    check(entry, `input ${entry.name} is`, "use a smaller batch_size or sequence_length");
  }
  for (const { node } of steps) {
    const at = `${node.op.name}${node.path ? ` at ${node.path}` : ""} makes`;
    for (const { spec } of node.outputs) {
      check(spec, at, "use a smaller batch_size or sequence_length");
    }
  }
}
