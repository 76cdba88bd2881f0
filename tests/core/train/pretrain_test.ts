import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, lossesOf, makeData, stepsOf, tinyConfig, train } from "./tiny_run.ts";

const close = (a: number, b: number, tolerance: number) =>
  Math.abs(a - b) <= tolerance * Math.abs(b);

Deno.test("pretrain: the loss falls, everything is written, the folder describes itself", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    const events = await train(tinyConfig(data, { steps: 40, log_every: 5 }), { run });
    const steps = stepsOf(events);
    assert.deepEqual(steps.map(({ step }) => step), [5, 10, 15, 20, 25, 30, 35, 40]);
    assert.ok(steps[7].loss < steps[0].loss - 1, `${steps[0].loss} → ${steps[7].loss}`);
    assert.deepEqual(events.slice(-3).map(({ kind }) => kind), ["validation", "checkpoint", "end"]);
    const lines = (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n");
    const records = lines.map((line) => JSON.parse(line));
    assert.equal(records.length, 9);
    assert.equal(records[7].loss, steps[7].loss);
    assert.ok(records[8].validation_loss > 0 && records[8].bits_per_byte > 0);
    const manifest = JSON.parse(await Deno.readTextFile(join(run, "manifest.json")));
    assert.equal(manifest.seed, 3);
    assert.equal(manifest.sessions[0].device.details.threads, 1);
    assert.match(manifest.data.sha256, /^[0-9a-f]{64}$/);
  }));

Deno.test("pretrain: two runs with one seed write the same checkpoints, another seed another", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const bytes = async (name: string, seed: number) => {
      await train(tinyConfig(data, { steps: 4, seed }), { run: join(dir, name) });
      return await checkpointBytes(join(dir, name), 4);
    };
    const first = await bytes("a", 3);
    assert.deepEqual(await bytes("b", 3), first);
    assert.notDeepEqual((await bytes("c", 4))["model.safetensors"], first["model.safetensors"]);
  }));

// huggingface/transformers 35203, 37766; axolotl 1100: loss and gradients changed with
// accumulation.
Deno.test("replay: transformers 35203: 8×1, 4×2 and 1×8 train alike, with uneven numbers of targets", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    const runs = await Promise.all(
      [1, 2, 8].map(async (accumulation) =>
        stepsOf(
          await train(tinyConfig(data, { accumulation, steps: 6 }), {
            run: join(dir, `by${accumulation}`),
          }),
        )
      ),
    );
    for (const run of runs.slice(1)) {
      run.forEach(({ loss, norm, tokens }, i) => {
        assert.ok(close(loss, runs[0][i].loss, 1e-5), `step ${i + 1}: ${loss} ${runs[0][i].loss}`);
        assert.ok(close(norm, runs[0][i].norm, 1e-4), `step ${i + 1}: ${norm} ${runs[0][i].norm}`);
        assert.equal(tokens, runs[0][i].tokens);
      });
    }
  }));

for (const packing of ["documents", "windows"]) {
  // litgpt 1712: resumed in the middle of an epoch and repeated its end; the_well 77: schedule
  // lost.
  Deno.test(`replay: litgpt 1712, the_well 77: stop anywhere and go on equals never stopping (${packing})`, () =>
    withTempDir(async (dir) => {
      // 6000 bytes are some 20 rows of 256 tokens: 12 steps are several epochs
      const data = await makeData(dir);
      const config = tinyConfig(data, { data: { path: data, packing } });
      const whole = lossesOf(await train(config, { run: join(dir, "whole") }));
      for (const stopAfter of [1, 5, 8]) {
        const run = join(dir, `stopped${stopAfter}`);
        const first = await train(config, { run, stopAfter });
        const stopped = first.at(-1);
        assert.ok(stopped?.kind === "end" && stopped.reason === "interrupted");
        const second = await train(config, { run, resume: true });
        const losses = new Map([...lossesOf(first), ...lossesOf(second)]);
        assert.deepEqual(losses, whole);
        assert.deepEqual(
          await checkpointBytes(run, 12),
          await checkpointBytes(join(dir, "whole"), 12),
        );
        const lines = (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n");
        const steps = lines.map((line) => JSON.parse(line)).filter((r) => "loss" in r);
        assert.deepEqual(steps.map(({ step }) => step), [...whole.keys()]);
      }
    }));
}

// EleutherAI/gpt-neox PR 308: fast-forward ignored accumulation, so data repeated.
Deno.test("replay: gpt-neox 308: data go on where they were, also when accumulation changes on resume", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const config = (accumulation: number) => tinyConfig(data, { accumulation });
    const whole = lossesOf(await train(config(4), { run: join(dir, "whole") }));
    const run = join(dir, "changed");
    await train(config(4), { run, stopAfter: 5 });
    const rest = lossesOf(await train(config(1), { run, resume: true }));
    assert.ok(rest.size >= 6);
    for (const [step, loss] of rest) assert.ok(close(loss, whole.get(step)!, 1e-5), `step ${step}`);
  }));

// torchtitan PR 4167, transformers 41898, llm.c 710: evaluation moved with the batch size.
Deno.test("replay: torchtitan 4167: the validation loss does not depend on the batch size", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const found = await Promise.all([1, 3, 8].map(async (batch_size) => {
      // a rate this small changes no weight by more than its last bits
      const learning_rate = { kind: "constant", peak: 1e-30 };
      const config = tinyConfig(data, {
        batch_size,
        steps: 1,
        optimizer: { kind: "adamw", learning_rate, weight_decay: 0 },
      });
      const events = await train(config, { run: join(dir, `by${batch_size}`) });
      return events.find((event) => event.kind === "validation")!;
    }));
    for (const { loss, targets } of found) {
      assert.ok(close(loss, found[0].loss, 1e-7), `${loss} ${found[0].loss}`);
      assert.equal(targets, found[0].targets);
    }
  }));

// nanoGPT 167, 215; OneTrainer PR 1154: training went on after NaN and overwrote good checkpoints.
Deno.test("replay: nanoGPT 167: training stops at what is not finite, names it, keeps the last good checkpoint", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    const config = tinyConfig(data, { checkpoint: { every: 3, keep: 2 }, log_every: 4 });
    await train({ ...config, steps: 3 }, { run });
    const good = await checkpointBytes(run, 3);
    const explosive = { kind: "adamw", learning_rate: { kind: "constant", peak: 3e38 } };
    await assert.rejects(
      train({ ...config, optimizer: explosive }, { run, resume: true }),
      (error: Error & { hint?: string }) => {
        assert.match(error.message, /^step 5 is not finite; the first bad tensor: \w+/);
        assert.match(error.hint ?? "", /step 3, is finite: quern pretrain --resume/);
        return true;
      },
    );
    assert.deepEqual(await checkpointBytes(run, 3), good);
    assert.equal((await Deno.readTextFile(join(run, "checkpoints", "latest"))).trim(), "step-3");
    const again = stepsOf(await train(config, { run, resume: true }));
    assert.ok(again.every(({ loss }) => Number.isFinite(loss)));
  }));

Deno.test("pretrain: old checkpoints go, the newest stay", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    await train(tinyConfig(data, { steps: 7, checkpoint: { every: 2, keep: 2 } }), { run });
    const names = Array.from(Deno.readDirSync(join(run, "checkpoints")), ({ name }) => name).sort();
    assert.deepEqual(names, ["latest", "step-6", "step-7"]);
  }));

Deno.test("pretrain: a run is not overwritten, and does not go on with another model, seed or text", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000),
      run = join(dir, "run"),
      config = tinyConfig(data, { steps: 2 });
    await train(config, { run });
    await assert.rejects(train(config, { run }), /it exists already/);
    const model = { ...config.model, rope_theta: 500 };
    await assert.rejects(train({ ...config, model }, { run, resume: true }), /model cannot change/);
    await assert.rejects(
      train({ ...config, seed: 4 }, { run, resume: true }),
      /seed cannot change/,
    );
    await Deno.mkdir(join(dir, "other"));
    const other = await makeData(join(dir, "other"), 3500);
    await assert.rejects(
      train({ ...config, data: { path: other } }, { run, resume: true }),
      /other data/,
    );
    const packing = { path: data, packing: "windows" };
    await assert.rejects(
      train({ ...config, data: packing }, { run, resume: true }),
      /packing cannot change|the run packs documents/,
    );
    await train({ ...config, steps: 3 }, { run, resume: true }); // a refusal leaves the run as it was
    assert.match(await Deno.readTextFile(join(run, "config.yaml")), /packing: documents/);
  }));

Deno.test("pretrain: too little text is refused before a run folder is made", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    const packing = { path: data, packing: "windows" };
    await assert.rejects(
      train(tinyConfig(data, { data: packing, sequence_length: 9999 }), { run }),
      { message: /too few for rows of 9999/, exitCode: 2 },
    );
    assert.ok(!await Deno.stat(run).catch(() => undefined));
  }));

Deno.test("pretrain: max_minutes ends a run early, and it can go on", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    const events = await train(
      tinyConfig(data, { steps: 100_000, max_minutes: 0.005 }),
      { run },
    );
    const end = events.at(-1)!;
    assert.ok(end.kind === "end" && end.reason === "time" && end.step > 0 && end.step < 100_000);
    assert.equal(events.at(-2)?.kind, "checkpoint");
  }));
