/**
 * Places of everything that comes from outside: state, uploads, what the host computes from
 * uploads, constants.
 */

import type { Graph, Spec, Tensor } from "../graph/mod.ts";
import { PlanError } from "./error.ts";
import { contextOf } from "./schedule.ts";
import type { PlanNode, Use, Value } from "./simplify.ts";
import type { HostStep, NamedSpec, Plan, Storage } from "./types.ts";

export interface PlacedInputs {
  readonly storage: ReadonlyMap<Value, Storage>;
  readonly state: readonly NamedSpec[];
  readonly uploads: Plan["uploads"];
  readonly host: readonly HostStep[];
  readonly constants: Plan["constants"];
  readonly uploadBytes: number;
  readonly constantBytes: number;
}

/**
 * `room`: bytes that a tensor takes with its padding. Inputs that nothing reads keep their places:
 * they are part of the interface.
 */
export function placeInputs(
  graph: Graph,
  nodes: readonly PlanNode[],
  use: (tensor: Tensor) => Use | undefined,
  room: (spec: Spec) => number,
): PlacedInputs {
  const storage = new Map<Value, Storage>(), uploadOf = new Map<Value, number>();
  const state: NamedSpec[] = [], host: HostStep[] = [];
  const uploads: Plan["uploads"][number][] = [], constants: Plan["constants"][number][] = [];
  let uploadBytes = 0, constantBytes = 0;

  const upload = (name: string, value: Value | undefined, { shape, dtype }: Spec): number => {
    if (value) {
      storage.set(value, { space: "upload", offset: uploadBytes });
      uploadOf.set(value, uploads.length);
    }
    uploads.push({ name, shape, dtype, offset: uploadBytes });
    uploadBytes += room({ shape, dtype });
    return uploads.length - 1;
  };

  for (const { name, kind, tensor } of graph.inputs) {
    const { shape, dtype } = tensor, value = use(tensor)?.value;
    if (kind === "upload") upload(name, value, tensor);
    else {
      if (value) storage.set(value, { space: "state", index: state.length });
      state.push({ name, shape, dtype });
    }
  }
  for (const node of nodes) {
    if (node.op.host) {
      const inputs = node.inputs.map(({ value }) => {
        const index = uploadOf.get(value);
        if (index !== undefined) return index;
        throw new PlanError(
          `${node.op.name} is computed on the host and needs inputs that are sent with each run`,
        );
      });
      const outputs = node.outputs.map((value, i) =>
        upload(`host.${node.op.name}.${host.length}.${i}`, value, value.spec)
      );
      host.push({ op: node.op, context: contextOf(node), inputs, outputs });
    } else if (node.op.constant) {
      const { spec } = node.outputs[0];
      constants.push({
        ...spec,
        offset: constantBytes,
        values: node.attrs.values as ArrayBufferView,
      });
      storage.set(node.outputs[0], { space: "constant", offset: constantBytes });
      constantBytes += room(spec);
    }
  }
  return { storage, state, uploads, host, constants, uploadBytes, constantBytes };
}
