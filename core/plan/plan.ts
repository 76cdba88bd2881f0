/** From a graph to a plan: simplify, fuse, order, place. Nothing is allocated. */

import { copyProgram, denseAccess, fusedOp, type FusedProgram } from "../../kernels/mod.ts";
import {
  bytesOf,
  type Cost,
  type Graph,
  type GraphInput,
  type OpContext,
  sizeOf,
} from "../graph/mod.ts";
import { current, fuse, mayAlias } from "./fuse.ts";
import { type Interval, layOut } from "./memory.ts";
import { type PlanNode, simplify, type Use, type Value } from "./simplify.ts";
import type { HostStep, NamedSpec, Plan, PlanStep, Storage, Target } from "./types.ts";

/** A computation that the target cannot hold or bind, with what to change. */
export class PlanError extends Error {
  override name = "PlanError";
  readonly exitCode = 4;
}

export interface PlanOptions {
  /** Off: every node is its own kernel. For tests that compare. */
  readonly fuse?: boolean;
}

export function planGraph<L>(graph: Graph, target: Target<L>, options: PlanOptions = {}): Plan<L> {
  const simplified = simplify(graph);
  const results = [...graph.outputs, ...graph.updates].map(({ value }) => simplified.use(value));
  const { nodes: fused, replaced } = fuse(simplified.nodes, results, {
    maxOperands: target.maxOperands,
    epilogues: target.epilogues,
    fuse: options.fuse ?? true,
  });
  const use = (tensor: GraphInput["tensor"]): Use => current(simplified.use(tensor), replaced);
  return new Placement(graph, fused, use, target).plan();
}

interface Step {
  readonly node: PlanNode;
  readonly context: OpContext;
}

/** The bookkeeping of placing one graph. Lives only while `planGraph` runs. */
class Placement<L> {
  readonly #storage = new Map<Value, Storage>();
  readonly #state: NamedSpec[] = [];
  readonly #uploads: (NamedSpec & { offset: number })[] = [];
  readonly #uploadOf = new Map<Value, number>();
  readonly #constants: Plan["constants"][number][] = [];
  readonly #host: HostStep[] = [];
  #uploadBytes = 0;
  #constantBytes = 0;

  constructor(
    readonly graph: Graph,
    readonly nodes: readonly PlanNode[],
    readonly use: (tensor: GraphInput["tensor"]) => Use,
    readonly target: Target<L>,
  ) {}

  plan(): Plan<L> {
    this.#placeInputs();
    const steps = this.#scheduled();
    const owners = this.#donate(steps);
    const lowered = steps.map(({ node, context }) => this.target.lower(node.op, context));
    const arena = this.#placeIntermediates(steps, owners, lowered);
    const planned = steps.map(({ node, context }, i): PlanStep<L> => ({
      op: node.op,
      attrs: node.attrs,
      context,
      inputs: node.inputs.map(({ value }) => this.#at(value)),
      outputs: node.outputs.map((value) => this.#at(value)),
      scratch: arena.scratch[i],
      lowered: lowered[i].lowered,
      path: node.path,
    }));
    const costs = steps.map(({ node, context }): Cost =>
      node.op.cost?.(context) ?? { flops: 0, bytes: 0 }
    );
    const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
    const stateBytes = sum(this.#state.map((entry) => this.#round(bytesOf(entry))));
    const outputs = this.graph.outputs.map(({ name, value }) => {
      const { value: stored, spec } = this.use(value);
      return { name, ...spec, storage: this.#at(stored) };
    });
    return {
      state: this.#state,
      uploads: this.#uploads,
      host: this.#host,
      constants: this.#constants,
      steps: planned,
      outputs,
      totals: {
        stateBytes,
        arenaBytes: arena.bytes,
        uploadBytes: this.#uploadBytes,
        constantBytes: this.#constantBytes,
        peakBytes: stateBytes + arena.bytes + this.#uploadBytes + this.#constantBytes,
        flops: sum(costs.map(({ flops }) => flops)),
        bytesMoved: sum(costs.map(({ bytes }) => bytes)),
        dispatches: sum(lowered.map(({ dispatches }) => dispatches)),
      },
    };
  }

  #round(bytes: number): number {
    return Math.ceil((bytes + this.target.slack) / this.target.alignment) * this.target.alignment;
  }

  #at(value: Value): Storage {
    const storage = this.#storage.get(value);
    if (!storage) throw new Error(`${value.producer.op.name} was not placed`);
    return storage;
  }

  /** State, uploads and constants have places of their own; host ops become uploads. */
  #placeInputs(): void {
    const kinds = new Map(this.graph.inputs.map((input) => [this.#inputValue(input), input]));
    for (const input of this.graph.inputs) {
      // Inputs that nothing reads are still part of the interface.
      const { shape, dtype } = input.tensor;
      if (input.kind === "state") this.#state.push({ name: input.name, shape, dtype });
      else this.#upload(input.name, this.#inputValue(input), { shape, dtype });
    }
    const stateIndex = new Map(this.#state.map(({ name }, index) => [name, index]));
    for (const node of this.nodes) {
      if (node.op.placeholder) {
        const input = kinds.get(node.outputs[0])!;
        if (input.kind === "state") {
          this.#storage.set(node.outputs[0], {
            space: "state",
            index: stateIndex.get(input.name)!,
          });
        }
      } else if (node.op.host) this.#hostStep(node);
      else if (node.op.constant) {
        const { spec } = node.outputs[0], offset = this.#constantBytes;
        this.#constants.push({ ...spec, offset, values: node.attrs.values as ArrayBufferView });
        this.#storage.set(node.outputs[0], { space: "constant", offset });
        this.#constantBytes += this.#round(bytesOf(spec));
      }
    }
  }

  #inputValue({ tensor }: GraphInput): Value | undefined {
    try {
      return this.use(tensor).value;
    } catch {
      return undefined; // dead: no node kept it
    }
  }

  #upload(
    name: string,
    value: Value | undefined,
    spec: { shape: readonly number[]; dtype: NamedSpec["dtype"] },
  ): number {
    const offset = this.#uploadBytes;
    this.#uploads.push({ name, ...spec, offset });
    this.#uploadBytes += this.#round(bytesOf(spec));
    if (value) {
      this.#storage.set(value, { space: "upload", offset });
      this.#uploadOf.set(value, this.#uploads.length - 1);
    }
    return this.#uploads.length - 1;
  }

  #hostStep(node: PlanNode): void {
    const inputs = node.inputs.map(({ value }) => {
      const index = this.#uploadOf.get(value);
      if (index === undefined) {
        throw new PlanError(
          `${node.op.name} is computed on the host and needs inputs that are sent with each run`,
        );
      }
      return index;
    });
    const outputs = node.outputs.map((value, i) =>
      this.#upload(`host.${node.op.name}.${this.#host.length}.${i}`, value, value.spec)
    );
    this.#host.push({ op: node.op, context: contextOf(node), inputs, outputs });
  }

  /** What runs on the device, with copies in front of in-place work on something that is still needed, and behind state that cannot be written directly. */
  #scheduled(): Step[] {
    const work = this.nodes.filter(({ op }) => !op.placeholder && !op.host && !op.constant);
    const lastRead = new Map<Value, number>();
    work.forEach((node, i) => node.inputs.forEach(({ value }) => lastRead.set(value, i)));
    const results = new Set([
      ...this.graph.outputs.map(({ value }) => this.use(value).value),
      ...this.#movedState(),
    ]);
    const steps: Step[] = [];
    work.forEach((node, i) => {
      for (const [, input] of Object.entries(node.op.inplace ?? {})) {
        const { value, spec } = node.inputs[input];
        const isOwned = this.#isDonatedState(value, node) ||
          !["state", "upload", "constant"].includes(this.#storage.get(value)?.space ?? "");
        if (isOwned && lastRead.get(value) === i && !results.has(value)) continue;
        const copy = copyOf(value, spec, node);
        steps.push({ node: copy, context: contextOf(copy) });
        node.inputs[input] = { value: copy.outputs[0], spec };
      }
      steps.push({ node, context: contextOf(node) });
    });
    return steps;
  }

  /** State inputs that replace other state unchanged. */
  #movedState(): Value[] {
    return this.graph.updates.flatMap(({ input, value }) => {
      const moved = this.use(value).value;
      return moved.producer.op.placeholder && moved !== this.#inputValueOf(input) ? [moved] : [];
    });
  }

  /** Whether this state may be overwritten by the node's output: the graph replaces it by exactly that. */
  #isDonatedState(value: Value, node: PlanNode): boolean {
    return this.graph.updates.some(({ input, value: updated }) =>
      this.#inputValueOf(input) === value && this.#chainEnds(this.use(updated).value, value, node)
    );
  }

  #inputValueOf(tensor: GraphInput["tensor"]): Value | undefined {
    return this.#inputValue({ tensor } as GraphInput);
  }

  /** Follows in-place outputs from the final value back to the state; true if `node` is on that chain. */
  #chainEnds(final: Value, state: Value, node: PlanNode): boolean {
    let seen = false;
    for (let value = final; value !== state;) {
      const input = value.producer.op.inplace?.[value.index];
      if (input === undefined) return false;
      seen ||= value.producer === node;
      value = value.producer.inputs[input].value;
    }
    return seen;
  }

  /**
   * Decides which values live in state: chains of in-place work, and values that can be written straight over the state that
   * they replace. The others are copied at the end. Returns the state index of each such value.
   */
  #donate(steps: Step[]): Map<Value, number> {
    const owners = new Map<Value, number>(),
      position = new Map<Value, number>(),
      lastRead = new Map<Value, number>();
    const index = () =>
      steps.forEach(({ node }, i) => {
        node.outputs.forEach((value) => position.set(value, i));
        node.inputs.forEach(({ value }) => lastRead.set(value, i));
      });
    index();
    // State that moves as it is into other state is read at the very end.
    for (const value of this.#movedState()) lastRead.set(value, Infinity);
    const early: Step[] = [], copies: Step[] = [];
    const stateAt = new Map(this.#state.map(({ name }, i) => [name, i]));
    for (const { name, input, value } of this.graph.updates) {
      const state = stateAt.get(name)!, final = this.use(value), old = this.#inputValueOf(input);
      if (final.value === old) continue;
      if (this.#writesDirectly(final, old, steps, position, lastRead, owners)) {
        owners.set(final.value, state);
      } else {
        let source = final.value;
        if (this.#storage.get(source)?.space === "state") {
          // Two states may change places: all are read before any is written.
          const held = copyOf(source, final.spec, source.producer);
          early.push({ node: held, context: contextOf(held) });
          source = held.outputs[0];
        }
        const copy = copyOf(source, final.spec, source.producer);
        owners.set(copy.outputs[0], state);
        copies.push({ node: copy, context: contextOf(copy) });
      }
    }
    steps.push(...early, ...copies);
    return owners;
  }

  #writesDirectly(
    { value }: Use,
    old: Value | undefined,
    steps: readonly Step[],
    position: ReadonlyMap<Value, number>,
    lastRead: ReadonlyMap<Value, number>,
    owners: ReadonlyMap<Value, number>,
  ): boolean {
    const made = position.get(value);
    if (made === undefined || owners.has(value)) return false; // an input, or already somebody's
    const { node } = steps[made], through = node.op.inplace?.[value.index];
    if (through !== undefined) {
      // In place: the chain must start at this very state.
      let source: Value = node.inputs[through].value;
      while (source !== old) {
        const next = source.producer.op.inplace?.[source.index];
        if (next === undefined) return false;
        source = source.producer.inputs[next].value;
      }
      return true;
    }
    const read = old ? lastRead.get(old) ?? -1 : -1;
    if (read < made) return true;
    if (read > made || !this.target.aliasing || node.op !== fusedOp) return false;
    return node.inputs.every((use, i) =>
      use.value !== old || mayAlias(node.attrs.program as FusedProgram, i, value.index)
    );
  }

  #placeIntermediates(
    steps: readonly Step[],
    owners: ReadonlyMap<Value, number>,
    lowered: readonly { scratchBytes: readonly number[] }[],
  ): { bytes: number; scratch: Storage[][] } {
    const lastRead = new Map<Value, number>(), root = new Map<Value, Value>();
    const rootOf = (value: Value): Value => root.get(value) ?? value;
    steps.forEach(({ node }, i) => node.inputs.forEach(({ value }) => lastRead.set(value, i)));
    for (const { value } of this.graph.outputs) lastRead.set(this.use(value).value, steps.length);
    // Values that share storage: in-place outputs, and element-wise outputs over an operand that ends here.
    for (const [value, index] of owners) this.#storage.set(value, { space: "state", index });
    steps.forEach(({ node }, i) => {
      const taken = new Set<Value>(), dies = (value: Value) => lastRead.get(value) === i;
      node.outputs.forEach((value, o) => {
        const through = node.op.inplace?.[o];
        const source = through !== undefined
          ? node.inputs[through].value
          : owners.has(value)
          ? undefined
          : this.#reusable(node, o, dies, taken);
        if (source === undefined) return;
        taken.add(source);
        const below = rootOf(source), storage = this.#storage.get(below);
        if (storage) this.#storage.set(value, storage);
        else root.set(value, below);
      });
    });
    const first = new Map<Value, number>(),
      last = new Map<Value, number>(),
      bytes = new Map<Value, number>();
    steps.forEach(({ node }, i) => {
      for (const value of node.outputs) {
        if (this.#storage.has(value)) continue;
        const below = rootOf(value);
        this.#checkSize(value, node);
        first.set(below, Math.min(first.get(below) ?? i, i));
        last.set(below, Math.max(last.get(below) ?? i, lastRead.get(value) ?? i));
        bytes.set(below, Math.max(bytes.get(below) ?? 0, bytesOf(value.spec)));
      }
    });
    const values = [...first.keys()],
      intervals: Interval[] = values.map((value) => ({
        bytes: bytes.get(value)!,
        first: first.get(value)!,
        last: last.get(value)!,
      }));
    const scratchAt = lowered.map(({ scratchBytes }, i) =>
      scratchBytes.map((size) => intervals.push({ bytes: size, first: i, last: i }) - 1)
    );
    const layout = layOut(intervals, this.target);
    values.forEach((value, i) =>
      this.#storage.set(value, { space: "arena", offset: layout.offsets[i] })
    );
    for (const value of root.keys()) this.#storage.set(value, this.#at(rootOf(value)));
    return {
      bytes: layout.bytes,
      scratch: scratchAt.map((list) =>
        list.map((i): Storage => ({ space: "arena", offset: layout.offsets[i] }))
      ),
    };
  }

  /** An operand of a fused node that dies here, is not taken yet, and whose bytes the output may take over. */
  #reusable(
    node: PlanNode,
    o: number,
    dies: (value: Value) => boolean,
    taken: ReadonlySet<Value>,
  ): Value | undefined {
    if (!this.target.aliasing || node.op !== fusedOp) return undefined;
    const program = node.attrs.program as FusedProgram, out = node.outputs[o].spec;
    const fits = ({ value }: Use) =>
      !this.#storage.has(value) && dies(value) && !taken.has(value) &&
      value.spec.dtype === out.dtype && sizeOf(value.spec.shape) === sizeOf(out.shape) &&
      node.inputs.every((use, k) => use.value !== value || mayAlias(program, k, o));
    return node.inputs.find(fits)?.value;
  }

  #checkSize(value: Value, node: PlanNode): void {
    const bytes = bytesOf(value.spec);
    if (bytes <= this.target.maxTensorBytes) return;
    const mib = (n: number) => `${(n / 2 ** 20).toFixed(0)} MiB`;
    throw new PlanError(
      `${node.op.name}${node.path ? ` at ${node.path}` : ""} makes a tensor [${
        value.spec.shape.join(", ")
      }] of ${mib(bytes)}, more than the ${
        mib(this.target.maxTensorBytes)
      } that this device can bind; use a smaller batch_size or sequence_length`,
    );
  }
}

function contextOf(node: PlanNode): OpContext {
  return {
    inputs: node.inputs.map(({ spec }) => spec),
    outputs: node.outputs.map(({ spec }) => spec),
    attrs: node.attrs,
  };
}

/** A fused node that copies a value as it is. */
function copyOf(value: Value, spec: Use["spec"], like: PlanNode): PlanNode {
  const flat = [sizeOf(spec.shape)], outputs: Value[] = [];
  const base = copyProgram(flat, denseAccess(flat), spec.dtype);
  const program: FusedProgram = { ...base, outputs: [{ ...base.outputs[0], spec }] };
  const node: PlanNode = {
    op: fusedOp,
    attrs: { program },
    inputs: [{ value, spec: { shape: flat, dtype: spec.dtype } }],
    outputs,
    path: like.path,
    order: like.order,
  };
  outputs.push({ producer: node, index: 0, spec });
  return node;
}
