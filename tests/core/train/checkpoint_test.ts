import assert from "node:assert/strict";
import { join } from "node:path";
import { findCheckpoint, openCheckpoint, saveCheckpoint } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";

const progress = {
  step: 4,
  tokens: 100,
  cursor: { packing: "windows", window: 12 },
  data_sha256: "d",
  tokenizer_sha256: "t",
} as const;

const tensors = (value: number) => {
  const source = (name: string) =>
    ({ name, dtype: "F32", shape: [2], data: () => Float32Array.of(value, value) }) as const;
  return { model: [source("w")], optimizer: [source("m.w"), source("v.w")] };
};

Deno.test("checkpoint: comes back as it was written", () =>
  withTempDir(async (run) => {
    await saveCheckpoint(run, progress, tensors(1.5));
    using opened = await openCheckpoint(await findCheckpoint(run));
    assert.deepEqual(opened.model.read("w"), Float32Array.of(1.5, 1.5));
    assert.deepEqual([...opened.optimizer.tensors.keys()], ["m.w", "v.w"]);
    const { step, tokens, cursor } = opened.state;
    assert.deepEqual({ step, tokens, cursor }, { step: 4, tokens: 100, cursor: progress.cursor });
  }));

// pytorch-lightning 688, Automodel PR 3261: a kill during saving left what would not load.
Deno.test("replay: pytorch-lightning 688: a save that breaks off leaves the checkpoint before it", () =>
  withTempDir(async (run) => {
    await saveCheckpoint(run, progress, tensors(1));
    const broken = tensors(2);
    const full = () => {
      throw new Error("no space left on device");
    };
    broken.optimizer[1] = { ...broken.optimizer[1], data: full };
    await assert.rejects(saveCheckpoint(run, { ...progress, step: 5 }, broken), /no space/);
    assert.equal(await findCheckpoint(run), join(run, "checkpoints", "step-4"));
    using opened = await openCheckpoint(await findCheckpoint(run));
    assert.deepEqual(opened.model.read("w"), Float32Array.of(1, 1));
    const names = Array.from(Deno.readDirSync(join(run, "checkpoints")), ({ name }) => name).sort();
    assert.deepEqual(names, ["latest", "step-4"]);
  }));

Deno.test("checkpoint: a file that was cut or changed is refused by name", () =>
  withTempDir(async (run) => {
    const folder = await saveCheckpoint(run, progress, tensors(1));
    const file = join(folder, "optimizer.safetensors"), bytes = await Deno.readFile(file);
    await Deno.writeFile(file, bytes.slice(0, -4));
    await assert.rejects(openCheckpoint(folder), /has \d+ bytes, but \d+ were written/);
    bytes[bytes.length - 1] ^= 1;
    await Deno.writeFile(file, bytes);
    await assert.rejects(openCheckpoint(folder), /contents changed/);
    await Deno.remove(file);
    await assert.rejects(openCheckpoint(folder), { where: file, message: /no such file/ });
    await Deno.mkdir(file);
    await saveCheckpoint(run, { ...progress, step: 3 }, tensors(1));
    const instead = /damaged; use another: .*step-3$/;
    await assert.rejects(openCheckpoint(folder), {
      where: file,
      message: /a folder/,
      hint: instead,
    });
  }));

Deno.test("checkpoint: what is no run says so", () =>
  withTempDir(async (dir) => {
    await assert.rejects(findCheckpoint(join(dir, "nothing")), /there is no such folder/);
    await assert.rejects(findCheckpoint(dir), /neither a run folder nor a checkpoint/);
    await Deno.writeTextFile(join(dir, "config.yaml"), "");
    await assert.rejects(findCheckpoint(join(dir, "config.yaml")), /neither a run folder/);
    await Deno.mkdir(join(dir, "checkpoints"));
    await assert.rejects(findCheckpoint(dir), /has no checkpoint yet/);
    await Deno.mkdir(join(dir, "checkpoints", "step-7"));
    await assert.rejects(findCheckpoint(dir), { hint: /name one yourself: .*step-7$/ });
  }));
