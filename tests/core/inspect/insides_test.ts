import assert from "node:assert/strict";
import { join } from "node:path";
import { openDevice } from "../../../core/device/mod.ts";
import { dominant, type Finding, halfLife, lookInside } from "../../../core/inspect/insides.ts";
import { placedTexts } from "../../../core/inspect/texts.ts";
import { meanUndecided, undecided } from "../../../core/inspect/routing_page.ts";
import { openAny, type OpenedModel } from "../../../core/open/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "../train/tiny_run.ts";

const attention = { kind: "attention", num_attention_heads: 2, output_gate: "head" };
const swiglu = { kind: "swiglu", intermediate_size: 24 };
const delta = { kind: "gated_delta", num_key_heads: 2, key_head_dim: 8, value_head_dim: 8 };

/** A run of a few updates with these blocks. */
async function trained(dir: string, blocks: unknown[], model: Record<string, unknown> = {}) {
  const data = await makeData(dir), run = join(dir, "run");
  const config = tinyConfig(data, {
    model: { hidden_size: 16, blocks, ...model },
    steps: 4,
    optimizer: { kind: "adamw", learning_rate: 0.05 },
  });
  await train(config, { run });
  return run;
}

const read = (opened: OpenedModel, name: string) => opened.file.read(name) as Float32Array;
const close = (a: number, b: number, bound = 1e-5) =>
  assert.ok(Math.abs(a - b) < bound, `${a} ${b}`);
const softmax = (x: readonly number[]) => {
  const all = x.map(Math.exp), sum = all.reduce((a, b) => a + b);
  return all.map((one) => one / sum);
};
const entropy = (p: readonly number[]) =>
  -p.reduce((sum, one) => sum + one * Math.log(one + 1e-10), 0);

Deno.test("insides: polyglu's entropies and maps are those of its parameters and its net's scores", () =>
  withTempDir(async (dir) => {
    const mlp = {
      kind: "polyglu",
      intermediate_size: 12,
      tau: 0.7,
      activations: ["relu", "tanh", "silu"],
    };
    const run = await trained(dir, [{ mixer: attention, mlp }]);
    using opened = await openAny(run);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    // a single token: what is pooled is that token alone
    const texts = [{ category: "a", text: "" }];
    const { findings } = await lookInside(opened, device, texts, { maxTokens: 8, limit: 1 });
    const of = (name: string, kind: Finding["kind"]) =>
      findings.find((one) => one.name === name && one.kind === kind)!;
    const scores = of("scores", "scores").all.mean, path = "layers.0.mlp.router";
    assert.equal(of("scores", "scores").path, path);
    const alpha = read(opened, `${path}.alpha`), beta = read(opened, `${path}.beta`);
    const units = Array.from({ length: 12 }, (_, j) => [...alpha.subarray(3 * j, 3 * j + 3)]);
    const pulled = (tau: number) =>
      units.map((row) => softmax(row.map((a, k) => (a + beta[k] * scores[k]) / tau)));
    const mean = (rows: number[][]) =>
      rows.reduce((sum, row) => sum + entropy(row), 0) / rows.length;
    close(of("static", "shares").all.entropy!.mean, mean(units.map(softmax)));
    close(of("dynamic", "entropy").all.mean[0], mean(pulled(1)));
    pulled(0.7).flat().forEach((share, i) => close(of("dynamic", "shares").all.units![i], share));
    const choices = [...dominant(of("static", "shares"))];
    assert.deepEqual(choices, units.map((row) => row.indexOf(Math.max(...row))));
    assert.deepEqual(undecided(findings).map(({ column }) => column), [
      "static",
      "dynamic",
    ]);
  }));

Deno.test("insides: shares, decays and gates of layers that are passed again, by category", () =>
  withTempDir(async (dir) => {
    const mlp = { kind: "polymorphic", branches: [swiglu, { ...swiglu, kind: "glu" }, swiglu] };
    const blocks = [{ mixer: delta, mlp }, { mixer: attention, mlp: swiglu }];
    const run = await trained(dir, blocks, { order: [0, { layer: 0, modulated: true }, 1] });
    using opened = await openAny(run);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const texts = [
      { category: "a", text: "a small text of some length" },
      { category: "b", text: "another" },
      { category: "b", text: "and one more, and more" },
    ];
    const reading = { maxTokens: 16, limit: 3 };
    const { findings, categories } = await lookInside(opened, device, texts, reading);
    // a text is read in parts, the first ones first
    assert.deepEqual(categories, [
      { name: "a", texts: 2, tokens: 28 },
      { name: "b", texts: 3, tokens: 31 },
    ]);
    const shares = findings.filter(({ kind }) => kind === "shares");
    assert.deepEqual(shares.map(({ path }) => path), [
      "layers.0.mlp.router",
      "layers.0.mlp.router, pass 2",
    ]);
    for (const { labels, all, byCategory } of shares) {
      assert.deepEqual(labels, ["0 swiglu", "glu", "2 swiglu"]);
      close(all.mean.reduce((a, b) => a + b), 1);
      all.mean.forEach((share, i) =>
        close(share, (byCategory.a.mean[i] + byCategory.b.mean[i]) / 2)
      );
      assert.ok(all.entropy!.mean <= all.entropy!.ofMean + 1e-9);
    }
    const [decay, again] = findings.filter(({ kind }) => kind === "decay");
    assert.equal(again.path, "layers.0.mixer, pass 2");
    assert.ok(decay.all.least > 0 && decay.all.most <= 1 && decay.labels.length === 2);
    const names = findings.filter(({ kind }) => kind === "factor").map(({ path }) => path);
    assert.deepEqual(names, Array(2).fill("modulations.0 before layer 0"));
    assert.equal(findings.filter(({ kind }) => kind === "change").length, 3);
    assert.deepEqual(
      findings.filter(({ name }) => name === "output").map(({ path }) => path),
      ["layers.1.mixer.gate"],
    );
  }));

Deno.test("insides: texts are files, named files, records by category, or themselves", () =>
  withTempDir(async (dir) => {
    const text = join(dir, "prose.txt"), records = join(dir, "all.jsonl");
    await Deno.writeTextFile(text, "some prose");
    await Deno.writeTextFile(
      records,
      [["x = 1", "code"], [" ", "code"], ["1 + 1", "maths"]].map(([text, subject]) =>
        JSON.stringify({ text, subject })
      ).join("\n"),
    );
    const fields = ["text"];
    assert.deepEqual(await placedTexts([text, `novel=${text}`, "a = b", "To be"], { fields }), [
      { category: "prose", text: "some prose" },
      { category: "novel", text: "some prose" },
      { category: "text", text: "a = b" },
      { category: "text 2", text: "To be" },
    ]);
    assert.deepEqual(await placedTexts([records], { fields, categoryField: "subject" }), [
      { category: "code", text: "x = 1" },
      { category: "maths", text: "1 + 1" },
    ]);
    await assert.rejects(placedTexts([" "], { fields }), /no text to read/);
    for (const slip of ["prsoe.txt", "novel=prsoe.txt", "a/b.jsonl.gz"]) {
      await assert.rejects(placedTexts([slip], { fields }), /there is no such file/);
    }
    assert.equal((await placedTexts(["prsoe.txt "], { fields })).length, 1);
  }));

Deno.test("insides: entropies of layers are averaged by what they are of", () => {
  const of = (layer: string, column: string, value: number) => ({ layer, column, value, most: 2 });
  const all = [of("0", "static", 1), of("0", "dynamic", 0.25), of("1", "static", 2)];
  assert.deepEqual([...meanUndecided(all)], [
    ["static", { value: 1.5, most: 2 }],
    ["dynamic", { value: 0.25, most: 2 }],
  ]);
});

Deno.test("insides: after its half-life half of a state is left", () => {
  close(halfLife(0.5), 1);
  close(0.9 ** halfLife(0.9), 0.5);
  assert.equal(halfLife(1), Infinity);
});
