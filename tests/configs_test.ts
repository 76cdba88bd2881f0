import assert from "node:assert/strict";
import { assumedLimits, webgpuTarget } from "../core/device/webgpu/mod.ts";
import { loadConfig } from "../core/io/config.ts";
import { sftConfig } from "../core/sft/mod.ts";
import { configSchema, dryRun, pretrainConfig, resolveConfig } from "../core/train/mod.ts";
import { root } from "./support.ts";

const yamlFiles = [...Deno.readDirSync(`${root}configs`)].map(({ name }) => name)
  .filter((name) => name.endsWith(".yaml"));

const isTuning = (name: string) => name.startsWith("sft-");

for (const name of yamlFiles.filter(isTuning)) {
  Deno.test(`configs: ${name} is understood`, async () => {
    const { kind, optimizer } = await loadConfig(sftConfig, `${root}configs/${name}`);
    assert.ok(kind === "sft" && optimizer.freeze.length === 0);
  });
}

Deno.test("configs: sources of conversations have weights all or none", () => {
  const faultsOf = (...weights: (number | undefined)[]) => {
    const sources = weights.map((weight) => ({ path: "c.jsonl", weight }));
    const config = { kind: "sft", data: { sources }, sequence_length: 8, batch_size: 1, steps: 1 };
    const optimizer = { kind: "adamw", learning_rate: 0.1 };
    const { error } = sftConfig.safeParse({ ...config, optimizer });
    return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
  };
  assert.deepEqual([faultsOf(2, 1), faultsOf(undefined, undefined)], [[], []]);
  assert.deepEqual(faultsOf(2, undefined), [
    "data.sources.1: weight: missing, where another source has one",
  ]);
});

for (const name of yamlFiles.filter((name) => !isTuning(name))) {
  Deno.test(`configs: ${name} is understood, and its run can be planned`, async () => {
    const config = await loadConfig(pretrainConfig, `${root}configs/${name}`);
    const found = dryRun(
      resolveConfig(config, config.model.vocab_size ?? 65),
      webgpuTarget(assumedLimits),
    );
    assert.ok(found.params > 0 && found.totalBytes > 0 && found.flops > 0);
  });
}

Deno.test("configs: the recipe for tiny Shakespeare has nanoGPT's size, about 0.8 million", async () => {
  const config = await loadConfig(pretrainConfig, `${root}configs/shakespeare-char.yaml`);
  const { params } = dryRun(resolveConfig(config, 65), webgpuTarget(assumedLimits));
  assert.ok(Math.abs(params / 800_000 - 1) < 0.02, `${params}`);
});

for (const [kind, file] of [["pretrain", "schema.json"], ["sft", "sft-schema.json"]] as const) {
  Deno.test(`configs: ${file} is what \`quern config schema ${kind}\` prints, and each config names it`, async () => {
    const stored = await Deno.readTextFile(`${root}configs/${file}`);
    assert.deepEqual(
      JSON.parse(stored),
      JSON.parse(JSON.stringify(configSchema(kind))),
      `run: quern config schema ${kind} > configs/${file}, then deno fmt`,
    );
    for (const name of yamlFiles.filter((name) => isTuning(name) === (kind === "sft"))) {
      const text = await Deno.readTextFile(`${root}configs/${name}`);
      assert.ok(text.startsWith(`# yaml-language-server: $schema=${file}\n`), name);
    }
  });
}

Deno.test("configs: the schema refuses unknown keys, asks for what has no default, and takes a plain rate", () => {
  const schema = configSchema() as {
    $schema: string;
    additionalProperties: boolean;
    required: string[];
    $defs: Record<string, unknown>;
  };
  assert.equal(schema.$schema, "https://json-schema.org/draft/2020-12/schema");
  assert.equal(schema.additionalProperties, false);
  assert.ok(schema.required.includes("batch_size") && !schema.required.includes("seed"));
  const text = JSON.stringify(schema.$defs.rate_schedule);
  assert.match(text, /"type":"number"/);
  assert.match(text, /"const":"cosine"/);
});
