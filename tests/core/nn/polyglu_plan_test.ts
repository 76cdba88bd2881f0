import assert from "node:assert/strict";
import { cpuTarget } from "../../../core/device/cpu/target.ts";
import { assumedLimits, webgpuTarget } from "../../../core/device/webgpu/mod.ts";
import { sizeOf } from "../../../core/graph/mod.ts";
import { type Plan, planGraph } from "../../../core/plan/mod.ts";
import { mlpStep } from "./mlp_step.ts";

const sizes = { hidden: 64, intermediate: 256, tokens: 512 };
const hidden = sizes.intermediate * sizes.tokens;

const targets = {
  cpu: cpuTarget({ threads: 2, blas: false, relaxed: false }),
  webgpu: webgpuTarget(assumedLimits),
};

const forms = {
  "causal, noise": { kind: "polyglu" },
  "causal": { kind: "polyglu", routing_noise: "never" },
};

/** Results of kernels with at least one number for each token and hidden unit. */
const wide = ({ steps }: Plan) =>
  steps.flatMap(({ op, context }) => {
    const large = context.outputs.filter(({ shape }) => sizeOf(shape) >= hidden);
    return large.length > 0 ? [{ op: op.name, large }] : [];
  });

for (const [device, target] of Object.entries(targets)) {
  for (const [name, config] of Object.entries(forms)) {
    Deno.test(`polyglu: nothing is kept for each token, unit and activation: ${name}, ${device}`, () => {
      const plan = planGraph(mlpStep(config, sizes), target as typeof targets.webgpu);
      const twin = planGraph(mlpStep({ kind: "swiglu" }, sizes), target as typeof targets.webgpu);
      const found = wide(plan);
      assert.ok(found.every(({ large }) => large.every(({ shape }) => sizeOf(shape) === hidden)));
      // one kernel mixes, and one sends back: gates, ups, and a term of each preference's gradient
      assert.equal(found.filter(({ op }) => op === "fused").length, 2);
      const more = plan.totals.arenaBytes - twin.totals.arenaBytes;
      // four such terms, until they are summed over the tokens, and what is small
      assert.ok(more < 5 * 4 * hidden, `${more / (4 * hidden)} tensors of hidden units more`);
    });
  }
}
