import assert from "node:assert/strict";
import fc from "fast-check";
import { openDevice } from "../../../core/device/mod.ts";
import { batchesOf } from "../../../core/eval/score/batches.ts";
import { share, type TokenRow } from "../../../core/eval/score/rows.ts";
import {
  type RowScore,
  type ScoredModel,
  Scorer,
  type ScorerOptions,
} from "../../../core/eval/score/scorer.ts";
import { initialValues, type Model, namedParams } from "../../../core/model/mod.ts";
import { webgpuTest } from "../../support.ts";
import { llama, tinyModel, variants, vocab, wave } from "../model/tiny.ts";
import { bigramLogprob, bigramModel, opened } from "./toy.ts";

type Families = readonly (readonly TokenRow[])[];

async function scoreAll(
  source: ScoredModel,
  families: Families,
  options: ScorerOptions = {},
  kind: "cpu" | "webgpu" = "cpu",
) {
  await using device = await openDevice({ device: kind, blas: "off", threads: 1 });
  using scorer = Scorer.create(source, device, options);
  const scores: (readonly RowScore[])[] = [];
  let computed = 0, tokens = 0;
  for await (const scored of scorer.score({ families })) {
    for (const { family, scores: found } of scored.families) scores[family] = found;
    computed += scored.computed;
    tokens += scored.tokens;
  }
  return { scores, computed, tokens };
}

/** Numbers that look drawn by chance, the same each time. */
function counting(seed: number) {
  return (below: number) => (seed = seed * 48271 % 2147483647) % below;
}

/** Documents with shots in common, questions of 1 to 7 tokens and answers of 1 to 4; one is longer than the context. */
function documents(ids: number, positions: number): Families {
  const next = counting(5),
    some = (count: number) => Array.from({ length: count }, () => next(ids));
  const shots = some(18);
  const choices = (context: number[]) =>
    Array.from({ length: 2 + next(2) }, () => {
      const answer = some(1 + next(4));
      return { ids: [...context, ...answer], scored: answer.length };
    });
  return [
    ...Array.from({ length: 9 }, () => choices([...shots, ...some(1 + next(7))])),
    choices(some(2)),
    [{ ids: some(positions + 9), scored: 3 }],
    [{ ids: some(positions - 1), scored: positions - 2 }],
  ];
}

/** Weights of a size that trained ones have, none of them zero. */
function weightsOf(model: Model): ScoredModel {
  const named = new Map(namedParams(model.params).map((param) => [param.path, param]));
  return opened(model, (path) => {
    const first = initialValues(named.get(path)!, 7);
    return named.get(path)!.init.kind === "constant"
      ? wave(first.length, path.length).map((x, i) => first[i] + x / 3)
      : first.map((x) => 5 * x);
  });
}

/** Relative to the score: its sum has some roundings of f32 numbers as large as itself. */
const tolerance = 1e-6;

function assertClose(found: Awaited<ReturnType<typeof scoreAll>>, wanted: typeof found) {
  const sumOf = ({ logprobs }: RowScore) => logprobs.reduce((sum, x) => sum + x, 0);
  assert.equal(found.scores.length, wanted.scores.length);
  wanted.scores.forEach((rows, family) =>
    rows.forEach((row, i) => {
      const got = found.scores[family][i], error = Math.abs(sumOf(got) - sumOf(row));
      assert.ok(
        error <= tolerance * Math.max(1, Math.abs(sumOf(row))),
        `family ${family}, row ${i}: ${sumOf(got)}, not ${sumOf(row)}`,
      );
      assert.equal(got.logprobs.length, row.logprobs.length);
      assert.equal(got.is_greedy, row.is_greedy);
    })
  );
}

const table = (next: number, before: number) => Math.sin(3 * next + 5 * before * before) * 2;

Deno.test("replay: lm-evaluation-harness 337: a score is the sum of its tokens' log-probabilities, the last among them", async () => {
  const row = [3, 1, 4, 1, 5];
  const wanted = [1, 2, 3].map((at) => bigramLogprob(7, table, [row[at], row[at + 1]]));
  const { scores: [[score]] } = await scoreAll(bigramModel(7, 16, table), [
    [{ ids: row, scored: 3 }],
  ]);
  assert.equal(score.logprobs.length, 3);
  score.logprobs.forEach((x, i) => assert.ok(Math.abs(x - wanted[i]) < 1e-6, `${x} ${wanted[i]}`));
});

Deno.test("scorer: a row is greedy if all its targets are the likeliest, the first among equals", async () => {
  const likeliest = (before: number) =>
    Array.from({ length: 7 }, (_, id) => id).sort((a, b) => table(b, before) - table(a, before))[0];
  const first = likeliest(3), second = likeliest(first);
  const equal = await scoreAll(bigramModel(7, 16, () => 0), [[
    { ids: [3, 0, 0], scored: 2 },
    { ids: [3, 1], scored: 1 },
  ]]);
  const { scores } = await scoreAll(bigramModel(7, 16, table), [[
    { ids: [3, first, second], scored: 2 },
    { ids: [3, first, (second + 1) % 7], scored: 2 },
    { ids: [3, (first + 1) % 7], scored: 1 },
  ]]);
  assert.deepEqual(scores[0].map(({ is_greedy }) => is_greedy), [true, false, false]);
  assert.deepEqual(equal.scores[0].map(({ is_greedy }) => is_greedy), [true, false]);
});

Deno.test("replay: karpathy/llm.c 710: scores are the same in batches of 1, 3 and 8 and of all, with shared beginnings or without", async () => {
  const source = weightsOf(tinyModel(llama, 40)), families = documents(vocab, 40);
  const alone = await scoreAll(source, families, { batch: 1, sharing: "off" });
  assert.equal(alone.computed, alone.tokens);
  for (const batch of [1, 3, 8, undefined]) {
    assertClose(await scoreAll(source, families, { batch }), alone);
  }
  assertClose(await scoreAll(source, families, { batch: 8, sharing: "off" }), alone);
});

for (const [name, config] of Object.entries(variants)) {
  Deno.test(`replay: mlx-lm PR 1855: long and short rows of one batch score as alone: ${name}`, async () => {
    const model = tinyModel(config, 24), source = weightsOf(model);
    const families = documents(vocab, 24).slice(6);
    const alone = await scoreAll(source, families, { batch: 1, sharing: "off" });
    const together = await scoreAll(source, families);
    assertClose(together, alone);
    if (model.noise === "always") assert.equal(together.computed, together.tokens);
    else assert.ok(together.computed < 0.7 * alone.computed, "nothing was shared");
  });
}

Deno.test("scorer: where tokens depend on later ones, rows share nothing and score as alone", async () => {
  const [block] = (variants["polyglu, positions of rows"] as { blocks: { mlp: object }[] }).blocks;
  const ahead = { ...block, mlp: { ...block.mlp, pooling: "sequence", routing_noise: "never" } };
  const source = weightsOf(tinyModel({ hidden_size: 8, blocks: [ahead] }, 24));
  assert.ok(source.model.looksAhead);
  const families = documents(vocab, 24).slice(6);
  const alone = await scoreAll(source, families, { batch: 1, sharing: "off" });
  const together = await scoreAll(source, families);
  assert.equal(together.computed, together.tokens);
  assertClose(together, alone);
});

webgpuTest("scorer: WebGPU scores as the cpu does", async () => {
  const source = weightsOf(tinyModel(llama, 24)), families = documents(vocab, 24).slice(7);
  assertClose(await scoreAll(source, families, {}, "webgpu"), await scoreAll(source, families));
});

Deno.test("scorer: batches do not depend on what is known already", async () => {
  const source = weightsOf(tinyModel(llama, 24)), families = documents(vocab, 24);
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  using scorer = Scorer.create(source, device, { batch: 4 });
  const run = async (isKnown: (family: number) => boolean) => {
    const found = new Map<number, readonly RowScore[]>();
    for await (const { families: done } of scorer.score({ families, isKnown })) {
      for (const { family, scores } of done) found.set(family, scores);
    }
    return found;
  };
  const all = await run(() => false), rest = await run((family) => family % 3 > 0);
  assert.equal(all.size, families.length);
  assert.deepEqual([...rest.keys()].sort((a, b) => a - b), [0, 3, 6, 9]);
  for (const [family, scores] of rest) assert.deepEqual(scores, all.get(family));
});

Deno.test("sharing: trunks and branches put together are the rows; no target's place is in the base", () => {
  const ids = fc.array(fc.nat(2), { minLength: 2, maxLength: 30 });
  const row = ids.chain((ids) =>
    fc.record({ ids: fc.constant(ids), scored: fc.integer({ min: 1, max: ids.length - 1 }) })
  );
  const prefix = fc.array(fc.nat(1), { minLength: 16, maxLength: 24 });
  fc.assert(fc.property(
    fc.array(fc.array(row, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }),
    prefix,
    (given, prefix) => {
      const families = given.map((rows) =>
        rows.map(({ ids, scored }) => ({ ids: [...prefix, ...ids], scored }))
      );
      const rows = families.flat();
      let next = 0;
      const places = families.map((family) => family.map(() => next++));
      const { base, trunks } = share(rows, places, "on");
      const seen = new Set<number>();
      for (const trunk of trunks) {
        assert.ok(trunk.ids.length > 0);
        for (const { row, ids, scored, targets } of trunk.branches) {
          assert.deepEqual(
            [...base.slice(0, trunk.base), ...trunk.ids, ...ids],
            rows[row].ids.slice(0, -1),
          );
          assert.deepEqual(targets, rows[row].ids.slice(-scored));
          assert.ok(trunk.base <= rows[row].ids.length - 1 - scored);
          seen.add(row);
        }
      }
      assert.equal(seen.size, rows.length);
      const batches = batchesOf(trunks, { rows: 3, tokens: 64, positions: 1e6 });
      assert.deepEqual(
        new Set(batches.flatMap((batch) => batch.trunks)),
        new Set(trunks),
      );
    },
  ));
});
