import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../../core/io/safetensors.ts";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, makeData, tinyConfig, train } from "./tiny_run.ts";

const stateOf = async (run: string, step: number) => {
  const path = join(run, "checkpoints", `step-${step}`, "state.json");
  return JSON.parse(await Deno.readTextFile(path));
};

// litgpt 1712, PR 2313: resumed late in an epoch, and then repeated the rest of it for ever.
Deno.test("replay: litgpt 2313: stopped within the first and the second of three epochs, a run goes on bit for bit", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "stopped");
    const config = tinyConfig(data, { batch_size: 4, steps: 50, log_every: 1 });
    await train(config, { run: join(dir, "whole") });
    const epochs: number[] = [];
    for (const [i, stopAfter] of [7, 28].entries()) {
      const [end] = (await train(config, { run, resume: i > 0, stopAfter })).slice(-1);
      assert.ok(end.kind === "end" && end.reason === "interrupted");
      const { cursor } = await stateOf(run, end.step);
      assert.ok(cursor.document > 0, "within an epoch, not between two");
      epochs.push(cursor.epoch);
    }
    await train(config, { run, resume: true });
    epochs.push((await stateOf(run, 50)).cursor.epoch);
    assert.deepEqual(epochs, [0, 1, 2]);
    assert.deepEqual(await checkpointBytes(run, 50), await checkpointBytes(join(dir, "whole"), 50));
  }));

// nanoGPT 167, 215, PR 227: NaN came into the weights, and training went on and saved them.
Deno.test("replay: nanoGPT 215: a weight that is not a number stops the run at the next step, by its name", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    const config = tinyConfig(data, { checkpoint: { every: 1, keep: 0 } });
    await train({ ...config, steps: 3 }, { run });
    await poison(join(run, "checkpoints/step-3"), "layers.0.mlp.up");
    await assert.rejects(train(config, { run, resume: true }), {
      message: "step 4 is not finite; the first bad tensor: parameter layers.0.mlp.up",
      exitCode: 1,
    });
    const names = Array.from(Deno.readDirSync(join(run, "checkpoints")), ({ name }) => name).sort();
    assert.deepEqual(names, ["latest", "step-1", "step-2", "step-3"]);
  }));

/** Makes a weight NaN, and the checkpoint whole again. */
async function poison(folder: string, name: string): Promise<void> {
  const path = join(folder, "model.safetensors");
  const sources = await (async () => {
    using file = await openSafetensors(path);
    return [...file.tensors].map(([key, { shape }]) => ({
      name: key,
      shape,
      dtype: "F32" as const,
      values: Float32Array.from(file.read(key) as Float32Array),
    }));
  })();
  sources.find((source) => source.name === name)!.values[5] = NaN;
  await writeSafetensors(path, sources.map((source) => ({ ...source, data: () => source.values })));
  const state = JSON.parse(await Deno.readTextFile(join(folder, "state.json")));
  const sha256 = createHash("sha256").update(await Deno.readFile(path)).digest("hex");
  state.files["model.safetensors"].sha256 = sha256;
  await Deno.writeTextFile(join(folder, "state.json"), JSON.stringify(state));
}

// PolyGLU's diary: optimizer groups by number of axes, and fresh moments on resume: loss 2.0 → 9.8.
Deno.test("replay: PolyGLU 29: moments belong to a parameter's path: in other groups a run goes on bit for bit", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    const rule = { kind: "adamw", learning_rate: 0.01, weight_decay: 0 };
    const all = { ...rule, max_norm: 1 };
    const groups = [{ ...rule, params: ["*.mlp.*"] }, { ...rule, roles: ["gain"] }, rule];
    const config = tinyConfig(data, { steps: 8, optimizer: all });
    await train(config, { run: join(dir, "whole") });
    await train(config, { run, stopAfter: 3 });
    await train({ ...config, optimizer: { max_norm: 1, groups } }, { run, resume: true });
    assert.deepEqual(await checkpointBytes(run, 8), await checkpointBytes(join(dir, "whole"), 8));

    // other moments are not made up
    const other = { ...config, steps: 9, optimizer: { ...all, kind: "ademamix" } };
    await assert.rejects(train(other, { run, resume: true }), /has no tensor \w+\./);
  }));
