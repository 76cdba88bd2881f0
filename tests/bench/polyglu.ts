/**
 * A training step of a PolyGLU mlp, forward and backward, beside that of a SwiGLU mlp of the same
 * width: time, intermediate memory, and what their kernels move. By turns in one run, on the cpu
 * device. `deno run -A tests/bench/polyglu.ts --blas off`
 */

import { parseArgs } from "node:util";
import { openDevice } from "../../core/device/mod.ts";
import { assumedLimits, webgpuTarget } from "../../core/device/webgpu/mod.ts";
import type { Spec } from "../../core/graph/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import { type MlpSizes, mlpStep } from "../core/nn/mlp_step.ts";
import { interleave } from "./interleave.ts";

const { values } = parseArgs({
  options: {
    blas: { type: "string", default: "auto" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    rounds: { type: "string", default: "9" },
    kernels: { type: "boolean", default: false },
  },
});

await using device = await openDevice({
  device: "cpu",
  blas: values.blas,
  threads: Number(values.threads),
});

async function contender(config: Record<string, unknown>, sizes: MlpSizes, stack: DisposableStack) {
  const graph = mlpStep(config, sizes), plan = planGraph(graph, device.target);
  const state = stack.use(device.createState(plan.state));
  for (const { name, shape } of plan.state) {
    const size = shape.reduce((a, b) => a * b, 1);
    state.write(name, Float32Array.from({ length: size }, (_, i) => Math.sin(0.7 * i) / 10));
  }
  const executable = stack.use(await device.compile(plan, state, { ring: 1 }));
  const given = {
    row: new Int32Array(sizes.tokens),
    tau: Float32Array.of(0.5),
    noise: Uint32Array.of(1, 0, 0),
  };
  const inputs = Object.fromEntries(
    graph.inputs.flatMap(({ name, kind }) =>
      kind === "upload" ? [[name, given[name as keyof typeof given]]] : []
    ),
  );
  return {
    plan,
    gpu: planGraph(graph, webgpuTarget(assumedLimits)),
    async step() {
      const at = performance.now();
      executable.run(inputs);
      await device.idle();
      return performance.now() - at;
    },
  };
}

const forms: Readonly<Record<string, Record<string, unknown>>> = {
  swiglu: { kind: "swiglu" },
  polyglu: { kind: "polyglu" },
  "polyglu, no noise": { kind: "polyglu", routing_noise: "never" },
  "polyglu, sequence": { kind: "polyglu", pooling: "sequence" },
};

for (
  const sizes of [
    { hidden: 128, intermediate: 512, tokens: 512 },
    { hidden: 512, intermediate: 2048, tokens: 512 },
  ]
) {
  using stack = new DisposableStack();
  const made: Record<string, Awaited<ReturnType<typeof contender>>> = {};
  for (const [name, config] of Object.entries(forms)) {
    made[name] = await contender(config, sizes, stack);
  }
  const times = await interleave(
    Object.fromEntries(Object.entries(made).map(([name, { step }]) => [name, step])),
    { rounds: Number(values.rounds), warmMs: 400 },
  );
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  console.log(`${sizes.hidden} / ${sizes.intermediate}, ${sizes.tokens} tokens`);
  for (const [name, { plan: { totals, steps }, gpu }] of Object.entries(made)) {
    const { median, best } = times[name]!, base = times.swiglu!;
    console.log(
      `  ${name.padEnd(20)} ${median.toFixed(1)} ms, ${
        (median / base.median).toFixed(2)
      } of swiglu (best ${(best / base.best).toFixed(2)}); ` +
        `intermediate ${mib(totals.arenaBytes)} MiB, moved ${mib(totals.bytesMoved)} MiB, ` +
        `${steps.length} kernels; on a GPU ${mib(gpu.totals.arenaBytes)} MiB, ${
          mib(gpu.totals.bytesMoved)
        } MiB, ${gpu.steps.length} kernels`,
    );
    if (!values.kernels) continue;
    for (const { op, path, context: { inputs, outputs } } of steps) {
      const shapes = (specs: readonly Spec[]) => specs.map(({ shape }) => `[${shape}]`).join(" ");
      console.log(`    ${op.name} (${path}) ${shapes(inputs)} → ${shapes(outputs)}`);
    }
  }
}
