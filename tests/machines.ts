/**
 * The ways to run a graph that must agree: by the ops' plain loops in single or double precision,
 * and planned, on a device.
 *
 * @module
 */

import { type Graph, interpret, type Tensor } from "../core/graph/mod.ts";
import { planGraph, type PlanOptions } from "../core/plan/mod.ts";
import { openCpu } from "../core/device/cpu/device.ts";
import type { Device, HostArray } from "../core/device/types.ts";
import { openWebgpu } from "../core/device/webgpu/mod.ts";

/** Values by name. */
export type Named = Readonly<Record<string, ArrayLike<number>>>;

/** A graph ready to run, with the state that its runs leave behind. */
export interface Session extends Disposable {
  /** Runs once; the outputs by name. */
  run(inputs: Named): Promise<Named>;
  read(name: string): Promise<ArrayLike<number>>;
}

export interface Machine extends AsyncDisposable {
  readonly name: "loops, f64" | "loops, f32" | "cpu" | "cpu, no wasm" | "webgpu";
  start(graph: Graph, state?: Named, options?: PlanOptions): Promise<Session>;
}

/** The oracle: node by node, each by its reference. */
export function plainLoops(precision: "f32" | "f64"): Machine {
  return {
    name: `loops, ${precision}`,
    start: (graph, state = {}) => Promise.resolve(interpreted(graph, state, precision)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function interpreted(graph: Graph, first: Named, precision: "f32" | "f64"): Session {
  const state: Record<string, ArrayLike<number>> = { ...first };
  return {
    run(inputs) {
      const given = new Map<Tensor, ArrayLike<number>>(
        graph.inputs.map((
          { name, kind, tensor },
        ) => [tensor, (kind === "state" ? state : inputs)[name]]),
      );
      const results = interpret(
        [...graph.outputs, ...graph.updates].map(({ value }) => value),
        given,
        { precision },
      );
      const outputs = graph.outputs.map(({ name }, i) => [name, results[i]]);
      graph.updates.forEach(({ name }, i) => state[name] = results[graph.outputs.length + i]);
      return Promise.resolve(Object.fromEntries(outputs));
    },
    read: (name) => Promise.resolve(state[name]),
    [Symbol.dispose]: () => {},
  };
}

/** The cpu device; two threads, no BLAS, so that what runs is ours and the same everywhere. */
export async function cpuMachine({ wasm = true } = {}): Promise<Machine> {
  return machineOf(
    wasm ? "cpu" : "cpu, no wasm",
    await openCpu({ threads: 2, blas: "off", wasm }),
  );
}

export async function webgpuMachine(): Promise<Machine> {
  return machineOf("webgpu", await openWebgpu());
}

function machineOf(name: Machine["name"], device: Device): Machine {
  return {
    name,
    async start(graph, first = {}, options) {
      const plan = planGraph(graph, device.target, options);
      const state = device.createState(plan.state);
      for (const [entry, values] of Object.entries(first)) state.write(entry, values);
      const executable = await device.compile(plan, state, { ring: 1 });
      return {
        async run(inputs) {
          executable.run(inputs);
          const [outputs] = await executable.outputs();
          // A plan without outputs has no ring to read.
          return (outputs ?? {}) satisfies Record<string, HostArray>;
        },
        read: (entry) => state.read(entry),
        [Symbol.dispose]() {
          executable[Symbol.dispose]();
          state[Symbol.dispose]();
        },
      };
    },
    [Symbol.asyncDispose]: () => device[Symbol.asyncDispose](),
  };
}
