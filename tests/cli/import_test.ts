import assert from "node:assert/strict";
import { join } from "node:path";
import { formats } from "../../cli/import.ts";
import { importTables } from "../../core/import/mod.ts";
import { openSafetensors } from "../../core/io/safetensors.ts";
import { type Original, originalNamed, textOf, writeOriginal } from "../core/import/originals.ts";
import { withTempDir } from "../support.ts";
import { attempt, run } from "./tiny_project.ts";

/** A folder with the author's file, the config and the tokenizer. */
async function placeFiles(dir: string, original: Original, rest: object = {}): Promise<string[]> {
  const { format, config, tokenizer } = original;
  await writeOriginal(dir, original);
  await Deno.writeTextFile(join(dir, "tokenizer.json"), tokenizer.file);
  await Deno.writeTextFile(join(dir, "model.yaml"), JSON.stringify({ ...config, ...rest }));
  return [
    "import",
    `${format}.safetensors`,
    "--config",
    "model.yaml",
    "--tokenizer",
    "tokenizer.json",
  ];
}

/** ln softmax of a recorded row of logits. */
function logprobs({ recorded }: Original, position: number): number[] {
  const { shape: [, , vocab], values } = recorded.tensors.get("out/logits")!;
  const row = Array.from(values.slice(position * vocab, (position + 1) * vocab));
  const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
  return row.map((x) => x - total);
}

for (const format of ["veronica", "neollm", "recycled-core"]) {
  Deno.test(`quern import: ${format}, and quern generate says the recorded logits`, async () => {
    await withTempDir(async (dir) => {
      const original = originalNamed(format), { recorded, config } = original;
      const { stdout } = await run(dir, ...await placeFiles(dir, original), "--out", "runs/it");
      assert.match(
        stdout,
        new RegExp(`^runs/it: \\d+ tensors, [\\d,]+ parameters, as ${format}\\n`),
      );
      assert.match(stdout, /schedules stand at step 10 = the config's length/);
      const ids = recorded.tensors.get("in/ids")!, vocab = config.model.vocab_size!;
      const last = vocab - 1, time = ids.shape[1];
      // a text cannot have the last id, which ends one: as much of the first row as comes before it
      const row = Array.from(ids.values.slice(0, time)), end = row.indexOf(last);
      const prompt = row.slice(0, end < 0 ? time - 1 : end);
      assert.ok(prompt.length > 3);
      await Deno.writeTextFile(join(dir, "prompt.txt"), textOf(prompt));
      const said = await run(
        dir,
        ...["generate", "runs/it", "--prompt-file", "prompt.txt", "--json", "--max-tokens", "1"],
        ...["--alternatives", String(vocab), "--temperature", "0"],
      );
      const { alternatives } = JSON.parse(said.stdout.split("\n")[0]);
      const expected = logprobs(original, prompt.length - 1);
      assert.equal(alternatives.length, vocab);
      const { suggested_atol = 0 } = recorded.tolerance("out/logits");
      for (const { id, logprob } of alternatives) {
        // of a logit, and of the sum of all
        const near = 2 * suggested_atol + 1e-5 * Math.abs(expected[id]);
        assert.ok(Math.abs(logprob - expected[id]) <= near, `${id}: ${logprob}, ${expected[id]}`);
      }
    });
  });
}

Deno.test("quern import --dry-run lists what becomes of each tensor; formats are the tables", async () => {
  assert.deepEqual([...formats], Object.keys(importTables));
  await withTempDir(async (dir) => {
    const line = await placeFiles(dir, originalNamed("recycled-core"));
    const { stdout } = await run(dir, ...line, "--dry-run");
    assert.match(stdout, /^layers\.2\.mixer\.o \[32,32\] = qo_bank \[12,32,32\] \(entry 8\)$/m);
    assert.match(stdout, /^would be imported: \d+ tensors/m);
    const json = JSON.parse((await run(dir, ...line, "--dry-run", "--json")).stdout);
    assert.equal(json.format, "recycled-core");
    assert.equal(json.mapping.length, json.tensors);
    await assert.rejects(Deno.stat(join(dir, "runs")), Deno.errors.NotFound);
    const nowhere = await attempt(dir, ...line);
    assert.equal(nowhere.code, 2);
    assert.match(nowhere.stderr, /no --out is given/);
    await Deno.writeFile(join(dir, "pytorch_model.bin"), Uint8Array.of(0x50, 0x4b, 3, 4, 0));
    const broken = await attempt(dir, "import", "pytorch_model.bin", ...line.slice(2), "--dry-run");
    assert.equal(broken.code, 1);
    assert.match(broken.stderr, /pytorch_model\.bin: not a readable zip file: it ends without/);
  });
});

Deno.test("quern pretrain --from begins with a run's weights; imported ones cannot be gone on from", async () => {
  await withTempDir(async (dir) => {
    const original = originalNamed("polyglu");
    // so small a rate moves no weight by a bit
    const optimizer = { kind: "adamw", learning_rate: 1e-30 };
    const line = await placeFiles(dir, original, { optimizer, steps: 1 });
    await run(dir, ...line, "--out", "runs/it", "--quiet");
    const gone = await attempt(dir, "pretrain", "--resume", "runs/it");
    assert.equal(gone.code, 2, gone.stderr);
    assert.match(gone.stderr, /no optimizer's state .*\n.*quern pretrain CONFIG --from runs\/it/);
    const text = textOf(Array.from({ length: 400 }, (_, i) => (7 * i + i % 5) % 90));
    await Deno.writeTextFile(join(dir, "text.txt"), text);
    await run(dir, "tokenize", "text.txt", "--tokenizer", "tokenizer.json", "--out", "data");
    const from = ["pretrain", "model.yaml", "--from", "runs/it"];
    await run(dir, ...from, "--out", "runs/mine", "--quiet");
    const { sessions } = JSON.parse(await Deno.readTextFile(join(dir, "runs/mine/manifest.json")));
    assert.equal(sessions[0].from, "runs/it/checkpoints/step-1");
    const open = (run: string) =>
      openSafetensors(join(dir, run, "checkpoints/step-1/model.safetensors"));
    using before = open("runs/it");
    using after = open("runs/mine");
    assert.deepEqual([...after.tensors.keys()].toSorted(), [...before.tensors.keys()].toSorted());
    for (const name of before.tensors.keys()) {
      assert.deepEqual(after.read(name), before.read(name), name);
    }
    const misfit = await attempt(dir, ...from, "--dry-run", "--set", "model.hidden_size=24");
    assert.equal(misfit.code, 1, misfit.stderr);
    assert.match(misfit.stderr, /input\.embedding is F32 \[97,48\], the model needs F32 \[97,24\]/);
    await run(dir, "tokenize", "text.txt", "--tokenizer", "character", "--out", "other");
    const other = await attempt(dir, ...from, "--out", "runs/c", "--set", "data.path=other");
    assert.equal(other.code, 1);
    assert.match(other.stderr, /its tokenizer is not the one that the data were made with/);
  });
});

Deno.test("import: files that are nothing that quern reads are named as that", async () => {
  await withTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "junk.pt"), "this is no model\n");
    const checkpoint = ["--config", "polyglu-tiny", "--tokenizer", "byte", "--out", "x"];
    const outputs = await Promise.all([
      attempt(dir, "import", "junk.pt", ...checkpoint),
      attempt(dir, "import", "junk.pt", "--out", "x"),
    ]);
    assert.match(outputs[0].stderr, /junk\.pt: its first bytes are not those of safetensors/);
    assert.match(outputs[1].stderr, /junk\.pt: the file does not say what model it is of/);
    assert.deepEqual(outputs.map(({ code }) => code), [1, 2]);
  });
});
