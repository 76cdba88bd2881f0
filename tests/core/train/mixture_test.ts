import assert from "node:assert/strict";
import { join } from "node:path";
import { parseConfig } from "../../../core/io/config.ts";
import {
  openData,
  planSources,
  pretrainConfig,
  resolveConfig,
  sharesOf,
  timelineOf,
} from "../../../core/train/mod.ts";
import { characterTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { writeTexts } from "../data/support.ts";
import { checkpointBytes, lossesOf, stepsOf, tinyConfig, train } from "./tiny_run.ts";

/** Two folders of different text: `short` has many documents, `long` few and, unless asked, nothing held out. */
async function makeSources(dir: string, heldOut = false) {
  const texts = (words: string, count: number, length: number) =>
    Array.from({ length: count }, (_, i) => `${words} ${i} `.repeat(length));
  const short = join(dir, "short"), long = join(dir, "long");
  const split = (text: string, i: number) =>
    ({ split: i % 4 === 3 ? "val" : "train", text }) as const;
  await writeTexts(short, texts("abc", 24, 3).map(split));
  await writeTexts(
    long,
    texts("xyz", 4, 40).map((text) => ({ split: "train" as const, text }))
      .concat(heldOut ? [{ split: "val" as never, text: "xyz 9 ".repeat(30) }] : []),
  );
  return { short, long };
}

const weights = (short: unknown, long: unknown) => ({ short, long });
const falling = weights({ kind: "linear", peak: 3 }, 1);

const mixed = (
  { short, long }: { short: string; long: string },
  by: { short: unknown; long: unknown } = falling,
  changes: Record<string, unknown> = {},
) =>
  tinyConfig("", {
    data: { sources: [{ path: short, weight: by.short }, { path: long, weight: by.long }] },
    ...changes,
  });

const stateOf = async (run: string, step: number) =>
  JSON.parse(await Deno.readTextFile(join(run, `checkpoints/step-${step}/state.json`)));

Deno.test("replay: Lightning-AI/litgpt 1712: a mixture whose weights change goes on bit for bit, wherever it stopped", () =>
  withTempDir(async (dir) => {
    const folders = await makeSources(dir), config = mixed(folders);
    const whole = lossesOf(await train(config, { run: join(dir, "whole") }));
    for (const stopAfter of [1, 8]) {
      const run = join(dir, `stopped${stopAfter}`);
      const first = await train(config, { run, stopAfter });
      const second = await train(config, { run, resume: true });
      assert.deepEqual(new Map([...lossesOf(first), ...lossesOf(second)]), whole);
      const bytes = await checkpointBytes(run, 12);
      assert.deepEqual(bytes, await checkpointBytes(join(dir, "whole"), 12));
    }
    const { cursor } = await stateOf(join(dir, "whole"), 12);
    const [short, long] = cursor.sources;
    assert.ok(short.cursor.epoch > long.cursor.epoch + 1, "the short source is read more often");
  }));

Deno.test("mixture: rows done in parts are the same rows, and each source's tokens are counted", () =>
  withTempDir(async (dir) => {
    const folders = await makeSources(dir);
    const runs = await Promise.all([1, 4].map(async (accumulation) => {
      const run = join(dir, `by${accumulation}`);
      const events = await train(mixed(folders, falling, { accumulation }), { run });
      return { run, steps: stepsOf(events), end: events.at(-1) };
    }));
    const cursors = await Promise.all(runs.map(async ({ run }) => (await stateOf(run, 12)).cursor));
    assert.deepEqual(cursors[1], cursors[0]);
    runs[0].steps.forEach(({ loss, tokensBySource, tokens }, i) => {
      const other = runs[1].steps[i];
      assert.ok(Math.abs(loss - other.loss) < 1e-5 * loss, `step ${i + 1}`); // sums in another order
      assert.deepEqual(tokensBySource, other.tokensBySource);
      const { short, long } = tokensBySource!;
      assert.equal(short + long, tokens);
      // weights 3 · (1 − s/12) and 1 at step s: the expected rows of 8 an update, to within one of 32 tokens
      const share = Array.from(
        { length: i + 1 },
        (_, s) => 3 * (1 - s / 12) / (3 * (1 - s / 12) + 1),
      );
      const expected = 8 * share.reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(short / 32 - expected) < 1, `${short / 32} rows, expected ${expected}`);
    });
    const { end, run } = runs[0];
    assert.ok(end?.kind === "end");
    assert.deepEqual(end.tokensBySource, runs[0].steps.at(-1)!.tokensBySource);
    const [line] = (await Deno.readTextFile(join(run, "metrics.jsonl"))).split("\n");
    assert.deepEqual(JSON.parse(line).tokens_by_source, runs[0].steps[0].tokensBySource);
  }));

Deno.test("mixture: what is held out is measured by source, and together by targets", () =>
  withTempDir(async (dir) => {
    const folders = await makeSources(dir, true), run = join(dir, "run");
    const events = await train(mixed(folders, weights(1, 1), { steps: 3 }), { run });
    const all = events.find((event) => event.kind === "validation")!;
    const { short, long } = all.bySource!;
    assert.equal(all.targets, short.targets + long.targets);
    const sum = short.loss * short.targets + long.loss * long.targets;
    const close = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-12 * b, `${a} ${b}`);
    close(all.loss, sum / all.targets);
    // of the byte tokenizer every target but the end of a text is a byte
    using data = await openData(pretrainConfig.parse(mixed(folders)).data);
    const bytes = data.sources.map(({ shards }) => shards.splits.val.bytes);
    close(short.bitsPerByte, short.loss * short.targets / Math.LN2 / bytes[0]);
    close(long.bitsPerByte, long.loss * long.targets / Math.LN2 / bytes[1]);
    close(all.bitsPerByte, sum / Math.LN2 / (bytes[0] + bytes[1]));
    const last = (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n").at(
      -1,
    )!;
    assert.deepEqual(JSON.parse(last), {
      step: 3,
      validation_loss: all.loss,
      bits_per_byte: all.bitsPerByte,
      validation_by_source: {
        short: { validation_loss: short.loss, bits_per_byte: short.bitsPerByte },
        long: { validation_loss: long.loss, bits_per_byte: long.bitsPerByte },
      },
    });
    // the same number as a run that has the folder alone would measure
    const weight = (which: string) => which === "short" ? weights(1, 0) : weights(0, 1);
    const alone = await train(
      tinyConfig(folders.short, { steps: 1 }),
      { run: join(dir, "alone") },
    );
    const rested = await train(
      mixed(folders, weight("short"), { steps: 1 }),
      { run: join(dir, "rested") },
    );
    const measured = alone.find((event) => event.kind === "validation")!;
    assert.equal(
      rested.find((event) => event.kind === "validation")!.bySource!.short.loss,
      measured.loss,
    );
  }));

Deno.test("mixture: a source that holds nothing out is left out of the validation loss", () =>
  withTempDir(async (dir) => {
    const folders = await makeSources(dir);
    const events = await train(mixed(folders, falling, { steps: 1 }), { run: join(dir, "run") });
    const all = events.find((event) => event.kind === "validation")!;
    assert.deepEqual(Object.keys(all.bySource!), ["short"]);
    assert.equal(all.targets, all.bySource!.short.targets);
  }));

Deno.test("mixture: a run keeps its sources; what changed, is missing, new or elsewhere in the order is named", () =>
  withTempDir(async (dir) => {
    const { short, long } = await makeSources(dir), run = join(dir, "run");
    await train(mixed({ short, long }, falling, { steps: 2 }), { run });
    const state = await stateOf(run, 2);
    assert.deepEqual(state.data_sha256.map(({ path }: { path: string }) => path), [short, long]);
    const manifest = JSON.parse(await Deno.readTextFile(join(run, "manifest.json")));
    assert.deepEqual(
      manifest.data.sources.map(({ sha256 }: { sha256: string }) => sha256),
      state.data_sha256.map(({ sha256 }: { sha256: string }) => sha256),
    );
    const refused = async (paths: string[], where: string, what: RegExp) => {
      const data = { sources: paths.map((path) => ({ path, weight: 1 })) };
      await assert.rejects(
        train(tinyConfig("", { data, steps: 4 }), { run, resume: true }),
        (error: Error & { where?: string }) => {
          assert.match(error.message, what);
          assert.equal(error.where, where);
          return true;
        },
      );
    };
    const other = join(dir, "other");
    await writeTexts(other, [{ split: "train", text: "something else ".repeat(20) }]);
    await refused([short, other], other, /other data than are there now/);
    await refused([long, short], long, /at another place/);
    await refused([short], "data.sources", /the source .*long of the run is missing/);
    await refused(
      [long],
      "data.sources",
      /the source .*short of the run is missing/,
    );
    await refused([short, long, other], other, /began without this source/);
    await assert.rejects(
      train(tinyConfig(short, { steps: 4 }), { run, resume: true }),
      /trained on several sources/,
    );
    const one = join(dir, "one");
    await train(tinyConfig(short, { steps: 1 }), { run: one });
    assert.deepEqual(Object.keys((await stateOf(one, 1)).cursor), [
      "packing",
      "epoch",
      "document",
      "offset",
    ]);
    await assert.rejects(
      train(mixed({ short, long }), { run: one, resume: true }),
      /trained on one source/,
    );
    // folders may move and weights may change
    const moved = join(dir, "moved");
    await Deno.rename(long, moved);
    const events = await train(mixed({ short, long: moved }, weights(0, 1), { steps: 4 }), {
      run,
      resume: true,
    });
    const [third, fourth] = stepsOf(events);
    assert.equal(third.tokensBySource!.short, fourth.tokensBySource!.short);
  }));

Deno.test("replay: mlfoundations/open_lm 77: sources of different tokenizers are refused, naming both", () =>
  withTempDir(async (dir) => {
    const { short } = await makeSources(dir), other = join(dir, "other");
    const text = "abc xyz ".repeat(40);
    await writeTexts(other, [{ split: "train", text }], { tokenizer: characterTokenizer(text) });
    const config = pretrainConfig.parse(mixed({ short, long: other }));
    await assert.rejects(openData(config.data), (error: Error & { where?: string }) => {
      assert.equal(error.where, other);
      assert.match(
        error.message,
        /tokenizer char\w* [0-9a-f]{12} .*, but .*short with byte [0-9a-f]{12}/,
      );
      return true;
    });
  }));

Deno.test("mixture: PolyGLU's, which moves to mathematics over the last fifth of its run", () => {
  const change = (from: number, to: number) => ({
    kind: "points",
    points: [["80%", from], ["100%", to]],
  });
  const sources = [
    { path: "math", weight: change(0.7, 0.85) },
    { path: "stem", weight: change(0.25, 0.1) },
    { path: "code", weight: 0.05 },
  ];
  const steps = 19_531,
    config = pretrainConfig.parse(
      tinyConfig("", { data: { sources }, steps, batch_size: 128, sequence_length: 4096 }),
    );
  const sharesAt = sharesOf(config.data, timelineOf(resolveConfig(config, 257)));
  const close = (step: number, expected: number[]) =>
    sharesAt(step).forEach((share, i) =>
      assert.ok(Math.abs(share - expected[i]) < 1e-12, `${step}`)
    );
  const start = Math.floor(0.8 * steps); // 15,624
  for (const step of [0, 1, 7777, start - 1, start]) close(step, [0.7, 0.25, 0.05]);
  for (const step of [start + 1, 17_000, steps - 1]) {
    const done = (step - start) / (steps - start);
    close(step, [0.7 + 0.15 * done, 0.25 - 0.15 * done, 0.05]);
  }
  close(steps, [0.85, 0.1, 0.05]);
  const plan = planSources(resolveConfig(config, 257), [7e9, 2.5e9, 0.5e9]);
  // of 10.24 B tokens: four fifths at the first shares, one at the mean of first and last
  const expected = [0.8 * 0.7 + 0.2 * 0.775, 0.8 * 0.25 + 0.2 * 0.175, 0.05];
  plan.forEach(({ share, tokens, epochs }, i) => {
    assert.ok(Math.abs(share - expected[i]) < 2e-5, `${share}`); // the last step is short of the end
    assert.ok(Math.abs(tokens - share * steps * 128 * 4096) <= 1);
    assert.ok(Math.abs(epochs! - tokens / [7e9, 2.5e9, 0.5e9][i]) < 1e-9);
  });
});

Deno.test("mixture: the shares of a run are those of its steps, however long it is", () => {
  const hold = { kind: "points", points: [[0, 1], ["30%", 0], ["60%", 2]], interpolate: "hold" };
  const sources = [
    { path: "a", weight: { kind: "cosine", peak: 2, end: 0.5, warmup: "10%" } },
    { path: "b", weight: { kind: "warmup_stable_decay", peak: 1, warmup: 0, decay: "25%" } },
    { path: "c", weight: hold },
  ];
  const plan = (steps: number) => {
    const config = resolveConfig(
      pretrainConfig.parse(tinyConfig("", { data: { sources }, steps })),
      257,
    );
    const sharesAt = sharesOf(config.data, timelineOf(config));
    return { shares: planSources(config, undefined).map(({ share }) => share), sharesAt };
  };
  const steps = 30_000, { shares, sharesAt } = plan(steps);
  const sums = [0, 0, 0];
  for (let step = 0; step < steps; step++) sharesAt(step).forEach((share, i) => sums[i] += share);
  shares.forEach((share, i) => assert.ok(Math.abs(share - sums[i] / steps) < 1e-6));
  plan(10 ** 12).shares.forEach((share, i) => assert.ok(Math.abs(share - shares[i]) < 1e-3));
});

Deno.test("mixture: faults of a config are said where they stand", () => {
  const rest = JSON.stringify(tinyConfig("")).replace('"data":{"path":""},', "").slice(1, -1);
  const refused = (data: string, at: string, what: RegExp) =>
    assert.throws(
      () => parseConfig(pretrainConfig, { text: `{${rest},\n"data":${data}}`, file: "mix.yaml" }),
      (error: Error & { where?: string }) => {
        assert.match(error.message, what);
        assert.equal(error.where, `mix.yaml:2:${8 + data.indexOf(at)}`); // "data": has 7 characters
        return true;
      },
    );
  const web = '{"path":"web","weight":';
  refused(`{"path":"a","sources":[${web}1}]}`, "[", /there is a path, too: one of them only/);
  refused(`{"packing":"windows"}`, "{", /data: missing: path .* or sources/);
  refused(`{"sources":[]}`, "[", /a list of at least 1/);
  refused(`{"sources":[{"path":"a"}]}`, '{"path', /data\.sources\.0\.weight: missing/);
  refused(`{"sources":[${web}-1}]}`, "-1", /data\.sources\.0\.weight: .*at least 0/);
  refused(`{"sources":[${web}1,"wait":1}]}`, '"wait"', /unknown key data\.sources\.0\.wait/);
  refused(`{"sources":[${web}0}]}`, "[", /every weight is 0 at step 0/);
  const late =
    '{"kind":"points","points":[[0,1],["50%",0],["75%",0],["75%",1]],"interpolate":"hold"}';
  const early = '{"kind":"constant","peak":1,"start":0,"warmup":4}'; // 12 steps
  refused(`{"sources":[${web}${late}}]}`, "[", /every weight is 0 at step 6/);
  refused(`{"sources":[${web}${early}}]}`, "[", /every weight is 0 at step 0/);
  refused(
    `{"sources":[${web}${late.replace("50%", "90%")}}]}`,
    '["75%",0]',
    /comes before the point above/,
  );
});
