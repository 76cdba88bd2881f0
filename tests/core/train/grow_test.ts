import assert from "node:assert/strict";
import { join } from "node:path";
import { parse } from "yaml";
import { openSafetensors } from "../../../core/io/safetensors.ts";
import { branchWeights } from "../../../core/nn/mod.ts";
import { findCheckpoint, type GrowJob, growRun, type StepEvent } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { checkClose } from "../../vectors.ts";
import { Values } from "../model/tiny.ts";
import { makeData, tinyConfig, train } from "./tiny_run.ts";

const polymorphic = {
  hidden_size: 16,
  blocks: [{
    repeat: 2,
    mixer: { kind: "attention", num_attention_heads: 2 },
    mlp: {
      kind: "polymorphic",
      branches: ["swiglu", "depthwise_conv"].map((kind) => ({ kind, intermediate_size: 24 })),
      router_size: 6,
      tau: { kind: "points", points: [[4, 2.2], ["100%", 1.4]] },
    },
  }],
};

const changes = { model: polymorphic, steps: 6, averages: { ema: { decay: 0.9 } } };

const job = (from: string, out: string, rest: Partial<GrowJob> = {}): GrowJob => ({
  from,
  out,
  branch: "glu",
  alone: { steps: 0, forceProb: 0.1 },
  session: { version: "test", command: ["test"] },
  ...rest,
});

/** The numbers of a checkpoint's file, by tensor. */
async function tensorsOf(run: string, file: string): Promise<Map<string, number[]>> {
  using opened = openSafetensors(join(await findCheckpoint(run), file));
  return new Map(
    [...opened.tensors.keys()].map((
      name,
    ) => [name, Array.from(opened.read(name) as Float32Array)]),
  );
}

const files = ["model.safetensors", "optimizer.safetensors", "ema.safetensors"];

Deno.test("replay: PolyGLU 29: a model that grows keeps its moments; new ones begin, and the old branches' weights keep their ratios", () =>
  withTempDir(async (dir) => {
    const run = join(dir, "run"), out = join(dir, "grown");
    await train(tinyConfig(await makeData(dir), changes), { run });
    const grown = await growRun(job(run, out));
    assert.deepEqual([grown.step, grown.layers], [6, 2]);
    assert.deepEqual(grown.branch, { kind: "glu", intermediate_size: 24 });
    for (const file of files) {
      const before = await tensorsOf(run, file), after = await tensorsOf(out, file);
      for (const [name, values] of before) {
        assert.deepEqual(after.get(name)!.slice(0, values.length), values, `${file}: ${name}`);
        if (!/router\.out/.test(name)) assert.equal(after.get(name)!.length, values.length);
      }
      const fresh = [...after.keys()].filter((name) => !before.has(name));
      const prefixes = file.startsWith("optimizer") ? ["m.", "v."] : [""];
      assert.deepEqual(
        fresh.toSorted(),
        prefixes.flatMap((prefix) =>
          [0, 1].flatMap((layer) =>
            ["down", "gate", "up"].map((what) => `${prefix}layers.${layer}.mlp.branches.2.${what}`)
          )
        ),
      );
      for (const name of fresh) {
        const isZero = after.get(name)!.every((x) => x === 0);
        assert.equal(isZero, file.startsWith("optimizer") || name.endsWith(".down"), name);
      }
    }
    const before = await tensorsOf(run, files[0]), after = await tensorsOf(out, files[0]);
    // the schedule of tau ends with the run: this is its end
    const bias = after.get("layers.1.mlp.router.out_bias")!;
    checkClose("bias", [bias[2]], [Math.min(bias[0], bias[1]) - 2 * 1.4], 1e-6, 0);
    assert.ok(after.get("layers.1.mlp.router.out")!.slice(12).every((x) => x === 0));
    const values = new Values(), time = 40;
    const x = values.tensor(
      { shape: [1, time, 16], dtype: "f32" },
      Array.from({ length: time * 16 }, (_, i) => Math.sin(i * i)),
    );
    const weightsBy = (tensors: Map<string, number[]>, branches: number) => {
      const shapes = {
        hidden: [6, 16],
        hidden_bias: [6],
        out: [branches, 6],
        out_bias: [branches],
      };
      const router = Object.fromEntries(
        Object.entries(shapes).map(([name, shape]) => [
          name,
          values.tensor({ shape, dtype: "f32" }, tensors.get(`layers.1.mlp.router.${name}`)!),
        ]),
      );
      return branchWeights(router as never, x, 1.4);
    };
    const [two, three] = values.run([weightsBy(before, 2), weightsBy(after, 3)], "f64");
    for (let t = 0; t < time; t++) {
      const ratio = three[3 * t] / three[3 * t + 1], expected = two[2 * t] / two[2 * t + 1];
      assert.ok(Math.abs(ratio / expected - 1) < 1e-6, `token ${t}: ${ratio}, not ${expected}`);
      assert.ok(three[3 * t + 2] > 0 && three[3 * t + 2] < 0.1);
    }
  }));

Deno.test("grow: alone, routers and new branches are trained and all else stays to the bit; then all is", () =>
  withTempDir(async (dir) => {
    const run = join(dir, "run"), out = join(dir, "grown"), data = await makeData(dir);
    await train(tinyConfig(data, changes), { run });
    await growRun(job(run, out, {
      branch: "swiglu",
      intermediate_size: 8,
      routerBias: 0.5,
      alone: { steps: 4, forceProb: 1 },
    }));
    const goOn = async (steps: number, options: { stopAfter?: number } = {}) => {
      const config = parse(await Deno.readTextFile(join(out, "config.yaml")));
      return await train({ ...config, steps }, { run: out, resume: true, ...options });
    };
    // averages are no part of this: they go on towards weights that rest
    const files = ["model.safetensors", "optimizer.safetensors"];
    const start = await Promise.all(files.map((file) => tensorsOf(out, file)));
    const changedSince = async (before: Map<string, number[]>[]) => {
      const now = await Promise.all(files.map((file) => tensorsOf(out, file)));
      return now.flatMap((tensors, i) =>
        [...tensors].filter(([name, values]) =>
          values.some((x, j) => x !== before[i].get(name)![j])
        )
          .map(([name]) => name)
      );
    };
    // once interrupted on the way
    await goOn(10, { stopAfter: 8 });
    const events = await goOn(10);
    const step = events.find((event): event is StepEvent => event.kind === "step")!;
    assert.equal(step.watched.force_prob, 1);
    const trained = await changedSince(start);
    const isNew = (name: string) => /\.(router|branches\.2)\./.test(name);
    assert.deepEqual(trained.filter((name) => !isNew(name)), []);
    for (const name of ["router.hidden", "router.out_bias", "branches.2.up", "branches.2.down"]) {
      assert.ok(trained.includes(`layers.1.mlp.${name}`), name);
      assert.ok(trained.includes(`m.layers.1.mlp.${name}`), name);
    }
    const alone = await Promise.all(files.map((file) => tensorsOf(out, file)));
    const later = await goOn(12);
    assert.equal(later.findLast((event) => event.kind === "step")?.watched.force_prob, 0);
    const all = await changedSince(alone);
    assert.deepEqual(
      [...alone[0].keys()].filter((name) => !all.includes(name)),
      [],
      "all weights are trained at last",
    );
  }));

Deno.test("grow: a model without routers is refused, and a folder that is not there", () =>
  withTempDir(async (dir) => {
    const run = join(dir, "run");
    await train(tinyConfig(await makeData(dir), { steps: 1 }), { run });
    await assert.rejects(growRun(job(run, join(dir, "grown"))), /no polymorphic mlp/);
    await assert.rejects(growRun(job(join(dir, "none"), join(dir, "grown"))), /no such folder/);
  }));
