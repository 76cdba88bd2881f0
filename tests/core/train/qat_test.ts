import assert from "node:assert/strict";
import { join } from "node:path";
import { pretrainConfig } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "./tiny_run.ts";

Deno.test("pretrain: qat changes nothing before its moment, and what is measured is the plain loss", async () => {
  await withTempDir(async (dir) => {
    const data = await makeData(dir);
    const lossesOf = async (name: string, changes: Record<string, unknown>) => {
      const config = tinyConfig(data, { validation: { every: 5 }, steps: 10, ...changes });
      const events = await train(config, { run: join(dir, name) });
      return {
        trained: events.flatMap((event) => event.kind === "step" ? [event.loss] : []),
        measured: events.flatMap((event) => event.kind === "validation" ? [event.loss] : []),
        watched: events.flatMap((event) => event.kind === "step" ? [event.watched.qat] : []),
      };
    };
    for (const precision of ["f32", "bf16"]) {
      const plain = await lossesOf(`plain ${precision}`, { precision });
      const qat = { bits: 5, from: "50%" };
      const late = await lossesOf(`late ${precision}`, { precision, qat });
      assert.deepEqual(late.trained.slice(0, 5), plain.trained.slice(0, 5));
      assert.notEqual(late.trained[5], plain.trained[5]);
      assert.equal(late.measured[0], plain.measured[0]);
      assert.deepEqual(late.watched, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    }
  });
});

Deno.test("configs: qat for matrices that the model has not, and at moments that are none, is refused", () => {
  const faults = (qat: unknown, changes = {}) => {
    const { error } = pretrainConfig.safeParse(tinyConfig("d", { qat, ...changes }));
    return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
  };
  assert.deepEqual(faults({ bits: 6 }), []);
  assert.deepEqual(faults({ bits: 6, params: ["nothing"] }), [
    "qat.params: no matrix of the model has such a path",
  ]);
  assert.equal(faults({ bits: 4 }).length, 1);
  const endless = {
    steps: undefined,
    max_minutes: 1,
    optimizer: { kind: "adamw", learning_rate: 1 },
  };
  assert.match(faults({ bits: 6 }, endless)[0], /^qat\.from: this needs the length of the run/);
});
