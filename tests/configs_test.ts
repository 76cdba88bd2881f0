import assert from "node:assert/strict";
import { assumedLimits, webgpuTarget } from "../core/device/webgpu/mod.ts";
import { loadConfig } from "../core/io/config.ts";
import { configSchema, dryRun, pretrainConfig, resolveConfig } from "../core/train/mod.ts";
import { root } from "./support.ts";

const yamlFiles = [...Deno.readDirSync(`${root}configs`)].map(({ name }) => name)
  .filter((name) => name.endsWith(".yaml"));

for (const name of yamlFiles) {
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

Deno.test("configs: schema.json is what `quern config schema` prints, and each config names it", async () => {
  const stored = await Deno.readTextFile(`${root}configs/schema.json`);
  assert.deepEqual(
    JSON.parse(stored),
    JSON.parse(JSON.stringify(configSchema())),
    "run: quern config schema > configs/schema.json, then deno fmt",
  );
  for (const name of yamlFiles) {
    const text = await Deno.readTextFile(`${root}configs/${name}`);
    assert.match(text, /^# yaml-language-server: \$schema=schema\.json\n/, name);
  }
});

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
