import assert from "node:assert/strict";
import fc from "fast-check";
import { doneBy, longestStage, type TimelineConfig, timelineOf } from "../../../core/train/mod.ts";

/** 10 tokens an update, then 40, then 5. */
const sizes = { sequence_length: 5, batch_size: 2, accumulation: 1 };
const staged = {
  ...sizes,
  steps: 100,
  stages: [
    { from: "200 tokens", sequence_length: 20 },
    { from: "50%", sequence_length: 5, batch_size: 1 },
  ],
} satisfies TimelineConfig;

Deno.test("timeline: stages begin at steps, tokens and parts; what they leave out stays", () => {
  const { stages, stageAt, tokensAt, steps, end } = timelineOf(staged);
  assert.deepEqual(stages, [
    { ...sizes, from: 0, tokensBefore: 0 },
    { ...sizes, from: 20, tokensBefore: 200, sequence_length: 20 },
    { ...sizes, from: 50, tokensBefore: 1400, batch_size: 1 },
  ]);
  assert.deepEqual([0, 19, 20, 49, 50, 99].map(stageAt), [0, 0, 1, 1, 2, 2].map((i) => stages[i]));
  assert.deepEqual([0, 1, 20, 21, 50, 100].map(tokensAt), [0, 10, 200, 240, 1400, 1650]);
  assert.deepEqual([steps, end], [100, 100]);
  assert.equal(longestStage(stages), stages[1]);
});

Deno.test("timeline: spans of tokens are exact through stages of different updates", () => {
  const at = timelineOf(staged);
  assert.deepEqual(
    [0, 1, 10, 11, 200, 201, 240, 241, 1400, 1401].map((n) => at.stepsOf(`${n} tokens`)),
    [0, 1, 1, 2, 20, 21, 21, 22, 50, 51],
  );
  const stage = fc.record({ rows: fc.integer({ min: 1, max: 9 }), length: fc.nat(20) });
  fc.assert(fc.property(fc.array(stage, { maxLength: 4 }), fc.nat(3000), (lengths, tokens) => {
    let from = 0;
    const { stepsOf, tokensAt } = timelineOf({
      ...sizes,
      steps: 50,
      stages: lengths.map(({ rows, length }) => ({ from: from += length, batch_size: rows })),
    });
    const steps = stepsOf(`${tokens} tokens`);
    assert.ok(tokensAt(steps) >= tokens && (steps === 0 || tokensAt(steps - 1) < tokens));
  }));
});

Deno.test("timeline: max_tokens alone gives the steps, and parts are parts of the tokens", () => {
  const even = timelineOf({ ...sizes, max_tokens: 1000, stages: [] });
  assert.deepEqual([even.steps, even.end], [100, 100]);
  assert.deepEqual(["29%", "0%", "100%"].map(even.stepsOf), [29, 0, 100]);
  assert.equal(timelineOf({ ...sizes, max_tokens: "1.001k", stages: [] }).steps, 101);
  const halves = [{ from: "50%", sequence_length: 20 }];
  const uneven = timelineOf({ ...sizes, max_tokens: "1k tokens", stages: halves });
  assert.deepEqual(uneven.stages.map(({ from }) => from), [0, 50]);
  assert.equal(uneven.steps, 50 + Math.ceil(500 / 40));
  assert.deepEqual([uneven.stepsOf("75%"), uneven.stepsOf("100%")], [56, 63]);
});

Deno.test("timeline: steps are the length of schedules, and whatever comes first is the end", () => {
  const both = { ...sizes, steps: 100, max_tokens: 300, stages: [] };
  const { steps, end, stepsOf } = timelineOf(both);
  assert.deepEqual([steps, end, stepsOf("50%")], [100, 30, 50]);
  assert.equal(doneBy(both, { step: 29, tokens: 290 }), undefined);
  assert.equal(doneBy(both, { step: 30, tokens: 300 }), "tokens");
  assert.equal(doneBy(both, { step: 100, tokens: 0 }), "steps");
  const endless = timelineOf({ ...sizes, stages: [{ from: 7, batch_size: 4 }] });
  assert.deepEqual([endless.steps, endless.end, endless.tokensAt(9)], [Infinity, Infinity, 110]);
});

Deno.test("timeline: a stage that begins where the next one does has no length", () => {
  const stages = [{ from: 0, batch_size: 7 }, { from: 5, batch_size: 3 }, {
    from: 5,
    accumulation: 3,
  }];
  assert.deepEqual(
    timelineOf({ ...sizes, steps: 9, stages }).stages.map((s) => [
      s.from,
      s.batch_size,
      s.accumulation,
    ]),
    [[0, 7, 1], [5, 3, 3]],
  );
});

Deno.test("timeline: what happens every so often happens as often as that, and within the longest gap", () => {
  const at = timelineOf(staged), steps = Array.from({ length: 100 }, (_, i) => i + 1);
  const due = (every: number | string, timeline = at) =>
    steps.filter((step) => timeline.timesBy(step, every) > timeline.timesBy(step - 1, every));
  assert.deepEqual(due(30), [30, 60, 90]);
  assert.deepEqual(due("40%"), [40, 80]);
  assert.deepEqual(due("500 tokens"), [28, 40, 70]); // 520, 1000 and 1500 tokens
  assert.deepEqual(due(0), []);
  assert.deepEqual(due("0%"), []);
  assert.deepEqual(due("33%", timelineOf({ ...sizes, max_tokens: 1000, stages: [] })), [
    33,
    66,
    99,
  ]);
  for (const every of [7, "3%", "0.5%", "120 tokens", "3 tokens"]) {
    const gap = at.longestGap(every), times = [0, ...due(every)];
    assert.ok(times.every((step, i) => i === 0 || step - times[i - 1] <= gap), `${every}: ${gap}`);
  }
});
