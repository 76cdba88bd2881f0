/** Does a device compute what the plain loops say? Each op by itself, and a chain that is fused. */

import type { Device, HostArray } from "../device/mod.ts";
import { apply, type Graph, interpret, placeholder, type Tensor } from "../graph/mod.ts";
import { messageOf } from "../io/errors.ts";
import { planGraph } from "../plan/mod.ts";
import { add, fusedOp, gelu, mul } from "../../kernels/mod.ts";
import { compareValues } from "./compare.ts";
import { type Sample, samples } from "./samples.ts";

/** What became of an op's samples. */
export interface OpResult {
  readonly op: string;
  /** The largest error, relative to the value or, below 1, absolute. */
  readonly worst: number;
  /** What that may be. */
  readonly allowed: number;
  /** What is wrong, in words. */
  readonly fault: string | undefined;
}

/** A graph to be run, and how far its outputs may be off. */
interface Trial {
  readonly op: string;
  readonly graph: Graph;
  readonly values: readonly ArrayLike<number>[];
  readonly tolerance: number;
  readonly fuse: boolean;
}

/** Tests every op, one after another. Ends early where the device can do nothing more. */
export async function* selfTest(device: Device): AsyncGenerator<OpResult> {
  for (const trials of byOp([...samples().map(trialOf), chain()]).values()) {
    const results: OpResult[] = [];
    for (const trial of trials) results.push(await attempt(device, trial));
    yield results.reduce(worse);
    if (results.some(({ worst }) => worst === Infinity) && !await works(device)) return;
  }
}

function byOp(trials: readonly Trial[]): Map<string, Trial[]> {
  return Map.groupBy(trials, ({ op }) => op);
}

/** The worse of two results; what is allowed is the worse one's. */
function worse(a: OpResult, b: OpResult): OpResult {
  if ((a.fault === undefined) !== (b.fault === undefined)) return a.fault === undefined ? b : a;
  return b.worst > a.worst ? b : a;
}

function trialOf({ op, inputs, attrs, tolerance }: Sample): Trial {
  const tensors = inputs.map(({ shape, dtype }, i) =>
    placeholder({ shape, dtype }, `in_${i}`, "upload")
  );
  const outputs = apply(op, tensors, attrs);
  const values = inputs.map(({ values }) => values);
  return { op: op.name, graph: graphOf(tensors, outputs), values, tolerance, fuse: false };
}

/** gelu(x · gain + bias), as one kernel. */
function chain(): Trial {
  const [x, gain, bias] = [[5, 67], [67], [67]].map((shape, i) =>
    placeholder({ shape, dtype: "f32" }, `in_${i}`, "upload")
  );
  const values = [335, 67, 67].map((count, seed) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(7 * i + seed))
  );
  const graph = graphOf([x, gain, bias], [gelu(add(mul(x, gain), bias))]);
  return { op: fusedOp.name, graph, values, tolerance: 2e-6, fuse: true };
}

function graphOf(inputs: readonly Tensor[], outputs: readonly Tensor[]): Graph {
  return {
    inputs: inputs.map((tensor, i) => ({ name: `in_${i}`, kind: "upload", tensor })),
    outputs: outputs.map((value, i) => ({ name: `out_${i}`, value })),
    updates: [],
  };
}

/** A kernel that cannot be made or run is as wrong as one with wrong numbers. */
async function attempt(device: Device, trial: Trial): Promise<OpResult> {
  const { op, graph, values, tolerance } = trial;
  let actual: readonly HostArray[];
  try {
    actual = await run(device, trial);
  } catch (error) {
    return { op, worst: Infinity, allowed: tolerance, fault: messageOf(error) };
  }
  const outputs = graph.outputs.map(({ value }) => value);
  const inputs = new Map(graph.inputs.map(({ tensor }, i) => [tensor, values[i]]));
  const results = interpret(outputs, inputs, { precision: "f64" }).map((expected, i) => ({
    op,
    ...compareValues(actual[i], expected, { tolerance, dtype: outputs[i].dtype }),
  }));
  return results.reduce(worse);
}

async function run(device: Device, { graph, values, fuse }: Trial): Promise<HostArray[]> {
  const plan = planGraph(graph, device.target, { fuse });
  using state = device.createState([]);
  using executable = await device.compile(plan, state, { ring: 1 });
  executable.run(Object.fromEntries(graph.inputs.map(({ name }, i) => [name, values[i]])));
  const [result] = await executable.outputs();
  return graph.outputs.map(({ name }) => result[name]);
}

async function works(device: Device): Promise<boolean> {
  try {
    await device.idle();
    return true;
  } catch {
    return false; // the kernel's own message says it
  }
}
