import assert from "node:assert/strict";
import { join } from "node:path";
import { parse } from "yaml";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

Deno.test("quern export: train, export, generate from the folder, bring it back, train on", async () => {
  await withTempDir(async (dir) => {
    await makeProject(dir);
    const averages = ["--set", "averages={ema: {decay: 0.9}}"];
    await run(dir, "pretrain", "tiny.yaml", "--out", "runs/a", "--quiet", ...averages);
    const { stdout } = await run(dir, "export", "runs/a", "--to", "hf", "hf/a");
    assert.match(stdout, /^hf\/a: LlamaForCausalLM, 11 tensors, [\d,]+ parameters, 6 files\n/);
    const text = ["--seed", "1", "--max-tokens", "12"];
    const [of, there] = await Promise.all(
      ["runs/a", "hf/a"].map((from) => run(dir, "generate", from, "Once", ...text)),
    );
    assert.equal(there.stdout, of.stdout);
    await run(dir, "import", "hf/a", "--out", "runs/back", "--quiet");
    const [before, after] = ["runs/a", "runs/back"].map((at) =>
      parse(Deno.readTextFileSync(join(dir, at, "config.yaml")))
    );
    assert.deepEqual(after, before);
    const mean = await run(
      dir,
      "average",
      "runs/a",
      "hf/a",
      "--weights",
      "3,1",
      "--out",
      "runs/mean",
    );
    assert.match(mean.stdout, /the mean of 2 models, .* at step 20, .*\n {2}75 % of .*step-20/);
    await run(dir, "pretrain", "tiny.yaml", "--from", "runs/mean", "--out", "runs/on", "--quiet");
    const ema = await run(
      dir,
      ...["export", "runs/a", "hf/ema", "--average", "ema", "--checkpoint", "step-15"],
      ...["--module", "--json"],
    );
    const record = JSON.parse(ema.stdout);
    assert.partialDeepStrictEqual(record, { step: 15, architecture: "QuernForCausalLM" });
    assert.ok(record.files.includes("modeling_quern.py"));
    const none = await attempt(dir, "export", "runs/a", "hf/swa", "--average", "swa");
    assert.equal(none.code, 2);
    assert.match(none.stderr, /has no swa of the weights\n.*it has: ema/);
    const which = await attempt(dir, "pretrain", "tiny.yaml", "--average", "ema");
    assert.match(which.stderr, /--average ema is of the weights that --from names/);
    const slip = await attempt(dir, "import", "hf/a", "--out", "x", "--tokenizer", "byte");
    assert.match(slip.stderr, /--tokenizer needs --config/);
  });
});

Deno.test("quern export --to artifact: packs within a budget, says what it costs, and what it wrote generates", async () => {
  await withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--out", "runs/a", "--quiet");
    const packed = ["export", "runs/a", "small", "--to", "artifact", "--small", "64"];
    const { stdout } = await run(dir, ...packed, "--budget", "8KB", "--measure", "data");
    assert.match(stdout, /^part +numbers +stored as +about +error +bits\/byte\n/);
    assert.match(stdout, /\nsmall\/model\.quern: [\d,]+ bytes by (zstd|lzma)/);
    assert.match(stdout, /\n[\d,]+ of a budget of 8,000 bytes \(\d\d\.\d %\)\n/);
    assert.match(stdout, /\nbits per byte \d\.\d{4} before, \d\.\d{4} after: [+−]\d+\.\d\d %\n/);
    const text = await run(dir, "generate", "small", "Once", "--seed", "1", "--weights", "int8");
    assert.ok(text.stdout.length > 0);
    const again = await attempt(dir, ...packed);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /small: it exists already/);
    const over = await attempt(dir, "export", "runs/a", "b", "--to", "artifact", "--budget", "1KB");
    assert.equal(over.code, 1);
    assert.match(over.stderr, /more than the budget of 1000 B/);
    const slip = await attempt(dir, "export", "runs/a", "b", "--budget", "16MB");
    assert.match(slip.stderr, /--budget is for --to artifact/);
  });
});
