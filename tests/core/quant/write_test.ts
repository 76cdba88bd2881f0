import assert from "node:assert/strict";
import { join } from "node:path";
import { openDevice } from "../../../core/device/mod.ts";
import { generate, openModel } from "../../../core/generate/mod.ts";
import { exists } from "../../../core/io/atomic.ts";
import { openAny } from "../../../core/open/mod.ts";
import { namedParams } from "../../../core/model/mod.ts";
import type { PackOptions } from "../../../core/quant/export.ts";
import { fromLevels, toLevels } from "../../../core/quant/levels.ts";
import { type ArtifactJob, exportArtifact } from "../../../core/quant/write.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "../train/tiny_run.ts";

const options: PackOptions = {
  search: "row",
  floor: "tiny",
  matrices: "int6",
  small: 256,
  packing: "bytes",
  compressions: ["zstd"],
};

const model = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
};

/** A run, trained for a moment, and how it is made an artifact. */
async function withRun(
  use: (
    dir: string,
    pack: (changes?: Partial<PackOptions>, job?: Partial<ArtifactJob>) => ReturnType<
      typeof exportArtifact
    >,
  ) => Promise<void>,
) {
  await withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    await train(tinyConfig(data, { model, steps: 30, log_every: 30 }), { run });
    using opened = await openAny(run);
    await use(dir, (changes, job) =>
      exportArtifact({
        opened,
        out: join(dir, "small"),
        options: { ...options, ...changes },
        ...job,
      }));
  });
}

Deno.test("artifact: it opens as what it was packed from, rounded, and generates from its levels", () =>
  withRun(async (dir, pack) => {
    const { parts, outcome, bytes } = await pack();
    assert.equal(outcome, undefined); // no budget
    assert.equal((await Deno.stat(join(dir, "small", "model.quern"))).size, bytes);
    using before = await openAny(join(dir, "run"));
    const { file: rounded, ...found } = await openAny(join(dir, "small"));
    for (const name of ["step", "point", "beginning", "tokenizer_sha256"] as const) {
      assert.deepEqual(found[name], before[name], name);
    }
    assert.deepEqual(found.model.config, before.model.config);
    for (const { path, shape, role } of namedParams(before.model.params)) {
      const values = before.file.read(path) as Float32Array, columns = shape.at(-1)!;
      const bits = role === "matrix" ? 6 : 8, size = values.length;
      const wanted = size <= 256
        ? Float32Array.from(Float16Array.from(values))
        : fromLevels(toLevels(values, columns, bits, options));
      assert.deepEqual(rounded.read(path), wanted, path);
    }
    const count = namedParams(before.model.params).reduce(
      (sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1),
      0,
    );
    assert.equal(parts.reduce((sum, { numbers }) => sum + numbers, 0), count);
    assert.ok(parts.every(({ error }) => error < 1e-3));
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const textOf = async (weights: "f32" | "int6") => {
      using open = await openModel(join(dir, "small", "model.quern"), device, { weights });
      let text = "";
      const sampling = { temperature: 0, topK: 0, topP: 1, seed: 1 };
      for await (const event of generate(open, "Once", { maxTokens: 20, sampling })) {
        text += event.text;
      }
      return text;
    };
    assert.equal(await textOf("int6"), await textOf("f32"));
  }));

Deno.test("artifact: bits per byte before and after, and by part; fewer bits cost more", () =>
  withRun(async (dir, pack) => {
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const reading = { format: "auto", fields: ["text"], separator: "\n", onError: "stop" } as const;
    const bits = { path: join(dir, "data"), split: "val", reading, counting: "once" } as const;
    const measure = { device, bits };
    const costOf = async (matrices: PackOptions["matrices"]) => {
      const { before, after, parts } = await pack({ matrices }, { measure, out: undefined });
      const lossy = parts.filter(({ bits_per_byte }) => bits_per_byte !== undefined);
      const wanted = matrices === "f16" ? ["input"] : ["input", "layers.*.mixer", "layers.*.mlp"];
      assert.deepEqual(lossy.map(({ part }) => part), wanted);
      return after! - before!;
    };
    const [five, half] = [await costOf("int5"), await costOf("f16")];
    assert.ok(Math.abs(half) < five, `f16 ${half}, int5 ${five}`);
    assert.ok(five > 0 && five < 0.1, `${five}`);
    assert.equal(await exists(join(dir, "small")), false);
  }));

Deno.test("artifact: a budget is kept to, said where it cannot be, and code counts if asked", () =>
  withRun(async (dir, pack) => {
    const least = await pack({ matrices: "int5" }, { out: undefined });
    const most = await pack({ matrices: "f16", small: 1e9 }, { out: undefined });
    const budget = Math.round((least.bytes + most.bytes) / 2);
    const besides = 500;
    const found = await pack({ matrices: "fit", budget, besides });
    assert.equal(found.outcome, "fits");
    assert.ok(found.bytes + besides <= budget && found.bytes + besides > 0.9 * budget);
    const forms = new Set(found.parts.flatMap(({ forms }) => Object.keys(forms)));
    assert.ok(forms.size > 1);
    for (const matrices of ["fit", "int5"] as const) {
      await assert.rejects(
        pack({ matrices, budget: 1000 }, { out: join(dir, "none") }),
        /the artifact takes .*: more than the budget of 1000 B/,
      );
    }
    await assert.rejects(pack(), /it exists already/);
    assert.equal(await exists(join(dir, "none")), false);
  }));

Deno.test("artifact: with another tokenizer beside it, it is refused", () =>
  withRun(async (dir, pack) => {
    await pack();
    await Deno.writeTextFile(join(dir, "small", "tokenizer.json"), '{"quern":"byte"}');
    await assert.rejects(openAny(join(dir, "small")));
  }));
