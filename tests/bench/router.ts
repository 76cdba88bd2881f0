/**
 * What a router costs: a training step of the polymorphic mlp of `configs/veronica-24l.yaml`, forward and backward, its
 * auxiliary loss, what is watched of it and forcing included, beside that of the mean of the same branches. By turns in one
 * run, on the cpu device. `deno run -A tests/bench/router.ts --blas off`
 */

import { parseArgs } from "node:util";
import { openDevice } from "../../core/device/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../../core/graph/mod.ts";
import {
  bindFrom,
  type BoundPart,
  branches,
  mlpConfig,
  polymorphic,
  type PolymorphicConfig,
  type TensorTree,
} from "../../core/nn/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import { add, element, gradients, mul, sumAll, sumLeading } from "../../kernels/mod.ts";
import { dimsOf } from "../core/nn/mlp_step.ts";
import { interleave } from "./interleave.ts";

const { values } = parseArgs({
  options: {
    blas: { type: "string", default: "auto" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    rounds: { type: "string", default: "9" },
    hidden: { type: "string", default: "768" },
    tokens: { type: "string", default: "256" },
  },
});
const hidden = Number(values.hidden), tokens = Number(values.tokens);

const dims = dimsOf(hidden, tokens);
const config = mlpConfig.parse({
  kind: "polymorphic",
  branches: ["swiglu", "glu", "depthwise_conv"].map((kind) => ({
    kind,
    intermediate_size: 4 * hidden,
  })),
  forcing: { probability: 0.1 },
}) as PolymorphicConfig;

type Mlp = Pick<BoundPart, "params" | "apply">;

/** The mean of the branches. */
function unrouted(): Mlp {
  const bound: BoundPart[] = config.branches.map((branch) => bindFrom(branches, branch, dims));
  return {
    params: bound.map(({ params }) => params),
    apply(params, x, ctx) {
      const outputs = bound.map((branch, i) =>
        branch.apply((params as TensorTree[])[i], x, ctx).out
      );
      return { out: mul(outputs.reduce((sum, out) => add(sum, out)), 1 / outputs.length) };
    },
  };
}

/** The output, the gradients of the weights and the input, and sums of what is watched. */
function stepOf(mlp: Mlp): Graph {
  const rows = spec([1, tokens, hidden]), row = spec([1, tokens], "i32");
  const params = mapTree(mlp.params, ({ shape }: Spec) => spec(shape));
  return trace((state, batch) => {
    const { params, x, cotangent } = state as unknown as Record<"x" | "cotangent", Tensor> & {
      params: TensorTree;
    };
    const told = batch as unknown as Record<"row" | "scalars" | "noise", Tensor>;
    const scalar = (i: number) => element(told.scalars, i);
    const { out, aux = {}, metrics = {} } = mlp.apply(params, x, {
      ids: told.row,
      positions: told.row,
      segment_ids: told.row,
      scalars: { tau: scalar(0), aux_weight: scalar(1), force_prob: scalar(2) },
      noise: told.noise,
      streams: {},
      isReplay: false,
    });
    const loss = Object.values(aux).map(sumAll).reduce(add, sumAll(mul(out, cotangent)));
    const leaves = leavesOf<Tensor>(params).map(({ leaf }) => leaf);
    const [dx, ...grads] = gradients(loss, [x, ...leaves]);
    let next = 0;
    return {
      state: { y: out, dx, grads: mapTree(params, () => grads[next++]) },
      outputs: Object.fromEntries(
        Object.entries(metrics).map(([name, told]) => [name, sumLeading(told, 2)]),
      ),
    };
  }, {
    state: { params, grads: params, x: rows, y: rows, dx: rows, cotangent: rows },
    batch: { row, scalars: spec([3]), noise: spec([1, 3], "u32") },
  } as never) as Graph;
}

await using device = await openDevice({
  device: "cpu",
  blas: values.blas,
  threads: Number(values.threads),
});
using stack = new DisposableStack();

async function contender(mlp: Mlp) {
  const graph = stepOf(mlp), plan = planGraph(graph, device.target);
  const state = stack.use(device.createState(plan.state));
  for (const { name, shape } of plan.state) {
    const size = shape.reduce((a, b) => a * b, 1);
    state.write(name, Float32Array.from({ length: size }, (_, i) => Math.sin(0.7 * i) / 10));
  }
  const executable = stack.use(await device.compile(plan, state, { ring: 1 }));
  const given = {
    row: new Int32Array(tokens),
    scalars: Float32Array.of(2.2, 0.008, 0.1),
    noise: Uint32Array.of(1, 0, 0),
  };
  const inputs = Object.fromEntries(
    graph.inputs.flatMap(({ name, kind }) =>
      kind === "upload" ? [[name, given[name as keyof typeof given]]] : []
    ),
  );
  return {
    plan,
    async step() {
      const at = performance.now();
      executable.run(inputs);
      await device.idle();
      return performance.now() - at;
    },
  };
}

const routed = await contender(polymorphic.bind(config, dims)), mean = await contender(unrouted());
const times = await interleave({ routed: routed.step, mean: mean.step }, {
  rounds: Number(values.rounds),
  warmMs: 400,
});
const ratio = (of: "median" | "best") => (times.routed![of] / times.mean![of]).toFixed(3);
console.log(
  `${hidden} channels, ${tokens} tokens: ${times.routed!.median.toFixed(0)} ms with a router, ` +
    `${times.mean!.median.toFixed(0)} ms without: ${ratio("median")} (best ${ratio("best")})`,
);
const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
for (const [name, { plan: { totals, steps } }] of Object.entries({ routed, mean })) {
  console.log(
    `  ${name}: intermediate ${mib(totals.arenaBytes)} MiB, moved ${mib(totals.bytesMoved)} MiB, ` +
      `${steps.length} kernels`,
  );
}
