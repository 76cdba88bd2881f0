import assert from "node:assert/strict";
import { join } from "node:path";
import { openChatTemplate } from "../../../core/text/chat/mod.ts";
import { loadTokenizer } from "../../../core/text/load.ts";
import { readSftConfig } from "../../../core/train/mod.ts";
import { openSafetensors } from "../../../core/io/safetensors.ts";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, lossesOf, stepsOf } from "../train/tiny_run.ts";
import { makeBase, sums, tinyTuning, tune, writePairs } from "./tiny_sft.ts";

const close = (a: number, b: number, tolerance: number) =>
  Math.abs(a - b) <= tolerance * Math.abs(b);

Deno.test("sft: the loss falls, the folder describes itself, and the model has the template's tokens", () =>
  withTempDir(async (dir) => {
    const base = await makeBase(dir), run = join(dir, "run");
    const path = await writePairs(join(dir, "chat.jsonl"), sums(40));
    const { events, prepared } = await tune(tinyTuning(base, path, { steps: 30 }), { run });
    const steps = stepsOf(events);
    assert.ok(steps[29].loss < steps[0].loss - 1, `${steps[0].loss} → ${steps[29].loss}`);
    assert.deepEqual(events.slice(-3).map(({ kind }) => kind), ["validation", "checkpoint", "end"]);
    const [{ train, val, counts }] = prepared.sources;
    assert.equal(train.conversations + val.conversations, 40);
    assert.equal(counts.conversations, 40);
    assert.ok(val.conversations > 0);

    const tokenizer = await loadTokenizer(run);
    assert.equal(tokenizer.vocabSize, 259);
    assert.equal((await openChatTemplate(run)).name, "chatml");
    const config = await readSftConfig(run);
    assert.equal(config.model!.vocab_size, 259);
    assert.equal(config.template, "chatml");
    const manifest = JSON.parse(await Deno.readTextFile(join(run, "manifest.json")));
    assert.equal(manifest.data.sources[0].conversations, 40);
    assert.match(manifest.sessions[0].from, /base.checkpoints.step-2$/);
    const lines = (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n");
    const records = lines.map((line) => JSON.parse(line));
    assert.deepEqual(
      Object.keys(records[0]),
      ["step", "loss", "norm", "learning_rate", "tokens", "tokens_per_second"],
    );
    // tokens are those that were read, of which few are learned
    assert.ok(records[0].tokens > 60 && records[0].tokens <= 4 * 32, `${records[0].tokens}`);
    assert.ok(records.at(-1).validation_loss > 0 && records.at(-1).bits_per_byte > 0);
  }));

Deno.test("sft: two runs with one seed write the same checkpoints, another seed another", () =>
  withTempDir(async (dir) => {
    const base = await makeBase(dir), path = await writePairs(join(dir, "chat.jsonl"), sums(30));
    const bytes = async (name: string, seed: number) => {
      await tune(tinyTuning(base, path, { steps: 4, seed }), { run: join(dir, name) });
      return await checkpointBytes(join(dir, name), 4);
    };
    const first = await bytes("a", 3);
    assert.deepEqual(await bytes("b", 3), first);
    assert.notDeepEqual((await bytes("c", 4))["model.safetensors"], first["model.safetensors"]);
  }));

for (const form of ["packed", "buckets", "mixture"] as const) {
  Deno.test(`sft: stop anywhere and go on equals never stopping, over epochs (${form})`, () =>
    withTempDir(async (dir) => {
      const base = await makeBase(dir);
      const write = () =>
        Promise.all(
          [sums(9), sums(5)].map((pairs, i) => writePairs(join(dir, `${i}.jsonl`), pairs)),
        );
      const [path, other] = await write();
      const data = form === "mixture"
        ? { path: undefined, sources: [{ path, weight: 2 }, { path: other, weight: 1 }] }
        : { packing: form };
      const config = tinyTuning(base, path, {
        data,
        steps: 10,
        batch_size: 2,
        accumulation: 2,
        validation: { every: 4 },
      });
      const whole = await tune(config, { run: join(dir, "whole") });
      for (const stopAfter of form === "packed" ? [1, 4, 7] : [4]) {
        const run = join(dir, `stopped${stopAfter}`);
        const first = await tune(config, { run, stopAfter });
        await Deno.remove(path); // what was rendered is in the run
        const second = await tune(config, { run, resume: true });
        await write();
        const losses = new Map([...lossesOf(first.events), ...lossesOf(second.events)]);
        assert.deepEqual(losses, lossesOf(whole.events));
        const expected = await checkpointBytes(join(dir, "whole"), 10);
        assert.deepEqual(await checkpointBytes(run, 10), expected);
      }
      const state = join(dir, "whole/checkpoints/step-10/state.json");
      const { cursor } = JSON.parse(await Deno.readTextFile(state));
      const places: { epoch: number }[] = "sources" in cursor
        ? cursor.sources.map(({ cursor }: { cursor: { epoch: number } }) => cursor)
        : [cursor];
      assert.ok(places.every(({ epoch }) => epoch >= 1), "an epoch is not over");
    }));
}

// transformers 35203, 37766; axolotl 1100, 3196; trl 2175: means of means. Answers have lengths of their own here.
Deno.test("replay: transformers 37766: 8×1, 4×2 and 1×8 tune alike, with masks as conversations have them", () =>
  withTempDir(async (dir) => {
    const base = await makeBase(dir), path = await writePairs(join(dir, "chat.jsonl"), sums(40));
    const runs = await Promise.all([1, 2, 8].map(async (accumulation) => {
      const config = tinyTuning(base, path, { batch_size: 8, accumulation, steps: 4 });
      const { events } = await tune(config, { run: join(dir, `by${accumulation}`) });
      return stepsOf(events);
    }));
    for (const run of runs.slice(1)) {
      run.forEach(({ loss, norm, tokens }, i) => {
        assert.ok(close(loss, runs[0][i].loss, 1e-5), `step ${i + 1}: ${loss} ${runs[0][i].loss}`);
        assert.ok(close(norm, runs[0][i].norm, 1e-4), `step ${i + 1}: ${norm} ${runs[0][i].norm}`);
        assert.equal(tokens, runs[0][i].tokens);
      });
    }
  }));

Deno.test("sft: tau and the like stay as pretraining left them; the routing's entropies are logged", () =>
  withTempDir(async (dir) => {
    const tau = { kind: "points", points: [[0, 1], ["100%", 0.1]] };
    const block = {
      mixer: { kind: "attention", num_attention_heads: 2 },
      mlp: { kind: "polyglu", intermediate_size: 24, tau },
    };
    const base = await makeBase(dir, { model: { hidden_size: 16, blocks: [block] } });
    const path = await writePairs(join(dir, "chat.jsonl"), sums(20)), run = join(dir, "run");
    const optimizer = {
      kind: "adamw",
      learning_rate: 0.01,
      freeze: [{ params: ["layers.*.mlp.router"] }],
    };
    const { events } = await tune(tinyTuning(base, path, { steps: 3, optimizer }), { run });
    for (const { watched } of stepsOf(events)) {
      assert.ok(close(watched.tau as number, 0.1, 1e-6));
      assert.ok(watched.static_routing_entropy as number > 1);
      assert.ok(watched.dynamic_routing_entropy as number > 0);
    }
    assert.match(await Deno.readTextFile(join(run, "config.yaml")), /^ +tau: 0\.1$/m);
    const open = (folder: string, step: number) =>
      openSafetensors(join(folder, "checkpoints", `step-${step}`, "model.safetensors"));
    using before = await open(base, 2), after = await open(run, 3);
    for (const name of before.tensors.keys()) {
      const [old, now] = [before.read(name), after.read(name)];
      const isSame = old.every((x, i) => x === now[i]);
      assert.equal(isSame, name.startsWith("layers.0.mlp.router."), name);
    }
  }));

Deno.test("sft: spare rows of the model are taken for new tokens first; only then do its tables grow", () =>
  withTempDir(async (dir) => {
    const model = {
      hidden_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 24,
      tie_word_embeddings: false,
    };
    const path = await writePairs(join(dir, "chat.jsonl"), sums(20));
    for (const [vocab_size, expected] of [[320, 320], [258, 259]]) {
      const folder = join(dir, `${vocab_size}`);
      await Deno.mkdir(folder);
      const base = await makeBase(folder, { model: { ...model, vocab_size } });
      const run = join(folder, "run");
      const still = { kind: "adamw", learning_rate: 1e-30, weight_decay: 0 };
      await tune(tinyTuning(base, path, { steps: 1, optimizer: still }), { run });
      const open = (folder: string, step: number) =>
        openSafetensors(join(folder, "checkpoints", `step-${step}`, "model.safetensors"));
      using before = await open(base, 2), after = await open(run, 1);
      for (const name of ["input.embedding", "head.weight"]) {
        const old = before.read(name) as Float32Array, now = after.read(name) as Float32Array;
        assert.deepEqual(after.tensors.get(name)!.shape, [expected, 16]);
        for (const id of [257, 258]) { // <|im_start|> and <|im_end|>
          for (let i = 0; i < 16; i++) {
            const column = Array.from({ length: 257 }, (_, row) => old[16 * row + i]);
            const mean = column.reduce((a, b) => a + b, 0) / 257;
            assert.ok(Math.abs(now[16 * id + i] - mean) < 1e-7, `${name} ${id} ${i}`);
          }
        }
        assert.deepEqual(now.subarray(0, 16 * 257), old.subarray(0, 16 * 257));
      }
    }
  }));
