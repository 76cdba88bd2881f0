import assert from "node:assert/strict";
import { mapTree, type Spec, spec, trace } from "../../../core/graph/mod.ts";
import { openSession, type Sampling, type Session } from "../../../core/generate/mod.ts";
import type { Rows } from "../../../core/model/mod.ts";
import { planGraph } from "../../../core/plan/mod.ts";
import { runSpecs, runValues } from "../../../core/model/mod.ts";
import { webgpuTest } from "../../support.ts";
import { openTiny, someIds, type TinyDecoder, tinyNames } from "./tiny_decoders.ts";

const warm: Sampling = { temperature: 1, topK: 0, topP: 1, seed: 7 };

/** Logits of every position of rows of `length`, by whole passes that know of no cache: [length, vocab]. */
async function wholePasses({ model, decoder, device }: TinyDecoder, length: number) {
  const graph = trace((state: Record<string, unknown>, batch: Record<string, unknown>) => {
    const params = state.params as Parameters<typeof model.apply>[0];
    const { hidden } = model.apply(params, batch as unknown as Rows);
    return { outputs: { logits: model.logits(params, hidden) } };
  }, {
    state: { params: mapTree(model.params, ({ shape }: Spec) => spec(shape)) } as never,
    batch: {
      ids: spec([1, length], "i32"),
      positions: spec([1, length], "i32"),
      ...runSpecs(model, 1, "measuring"),
    } as never,
  });
  const pass = await device.compile(planGraph(graph, device.target), decoder.state);
  const positions = Array.from({ length }, (_, i) => i);
  return {
    async logits(ids: readonly number[]): Promise<Float32Array> {
      pass.run({ ids, positions, ...runValues(model, decoder.point, "measuring", { rows: 1 }) });
      const [{ logits }] = await pass.outputs();
      return logits as Float32Array;
    },
    [Symbol.dispose]: () => pass[Symbol.dispose](),
  };
}

const vocab = 50;
const row = (logits: Float32Array, t: number) => logits.subarray(t * vocab, (t + 1) * vocab);
const distance = (a: Float32Array, b: Float32Array) =>
  a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);

for (const name of tinyNames) {
  Deno.test(`${name}: 300 tokens with a cache have the logits of whole passes`, async () => {
    await using tiny = await openTiny(name, { capacity: 320, outputs: "logits" });
    const prompt = someIds(5, 3), count = 300, ids = [...prompt], steps: Float32Array[] = [];
    await tiny.decoder.read([prompt]);
    for await (const { tokens, logits } of tiny.decoder.steps(count, warm)) {
      ids.push(tokens[0]);
      steps.push(logits!);
    }
    assert.equal(steps.length, count);
    const length = ids.length - 1, first = prompt.length - 1;
    using passes = await wholePasses(tiny, length);
    // f32 over some 300 terms and a few layers; logits are of size 1 to 10
    const whole = await passes.logits(ids.slice(0, length));
    for (const [i, logits] of steps.entries()) {
      const off = distance(logits, row(whole, first + i));
      assert.ok(off < 1e-4, `token ${i + 1}: ${off}`);
    }
    // one pass gives the logits of all beginnings, as what follows changes none of them
    for (let i = 0; i < count; i += 30) {
      const upTo = first + i + 1;
      const beginning = await passes.logits([...ids.slice(0, upTo), ...someIds(length - upTo, i)]);
      assert.ok(distance(steps[i], row(beginning, first + i)) < 1e-4, `the first ${upTo} alone`);
    }
    const spread = steps.map((logits) => Math.max(...logits) - Math.min(...logits));
    assert.ok(Math.min(...spread) > 0.5); // nothing would show in logits that are all alike
  });

  Deno.test(`${name}: a prompt of 1,000 tokens is read in one pass`, async () => {
    await using tiny = await openTiny(name, { capacity: 1024, outputs: "logits" });
    const prompt = someIds(1000, 5);
    const next = async () => {
      for await (const { logits } of tiny.decoder.steps(1, warm)) return logits!;
      throw new Error("no token came");
    };
    await tiny.decoder.read([prompt]);
    assert.equal(tiny.prefills(), 1);
    const once = await next();
    // the same in parts
    await tiny.decoder.read([prompt.slice(0, 301)]);
    await tiny.decoder.read([prompt], [0], 300);
    assert.ok(distance(once, await next()) < 1e-4);
    assert.ok(tiny.prefills() <= 5);
  });
}

/** `count` ids that a text of `prompt` goes on with. More are on their way when the caller has enough. */
async function goOn(session: Session, prompt: readonly number[], seed: number, count: number) {
  const reading = await session.read(prompt), ids: number[] = [];
  for await (const { tokens } of session.steps(2 * count, { ...warm, seed })) {
    ids.push(tokens[0]);
    if (ids.length === count) break;
  }
  return { ...reading, ids };
}

/** Turns of a session, each against its text alone. */
async function checkTurns(name: string, device: "cpu" | "webgpu", count: number): Promise<void> {
  await using tiny = await openTiny(name, { capacity: 200, device });
  const told: { prompt: number[]; seed: number; ids: number[] }[] = [];
  const session = openSession(tiny.decoder), hasSums = tiny.decoder.sums.length > 0;
  assert.equal(hasSums, name !== "shakespeare-char");
  const turn = async (prompt: number[], seed: number) => {
    const { ids, kept, read } = await goOn(session, prompt, seed, count);
    assert.equal(kept + read, prompt.length - 1);
    told.push({ prompt, seed, ids });
    return { text: [...prompt, ...ids], ids, kept, read };
  };
  const first = await turn(someIds(30, 1), 1);
  assert.equal(first.kept, 0);
  const second = await turn([...first.text, ...someIds(10, 2)], 2);
  // what was read of the first prompt is kept, and of its answer what can be
  assert.equal(second.read, hasSums ? count + 10 : 10);
  // an answer that is read by itself need not be read with what follows
  assert.equal((await session.read(second.text)).read, hasSums ? count : 0);
  const third = await turn([...second.text, ...someIds(10, 3)], 3);
  assert.equal(third.read, 10);
  // the last turn again, one turn back, from the beginning
  const again = await turn(told[2].prompt, 3);
  assert.deepEqual([again.read, again.ids], [0, third.ids]);
  const back = await turn([...first.text, ...someIds(25, 4)], 4);
  assert.equal(back.read, hasSums ? count + 25 : 24);
  const cleared = await turn(someIds(30, 5), 5);
  assert.equal(cleared.read, 29);
  assert.throws(() => openSession(tiny.decoder), /is making a text/);
  session[Symbol.dispose]();
  for (const { prompt, seed, ids } of told) {
    using alone = openSession(tiny.decoder);
    const { kept, ids: wanted } = await goOn(alone, prompt, seed, count);
    assert.equal(kept, 0);
    assert.deepEqual(ids, wanted);
  }
}

Deno.test("session: what settles is read in pieces, until it is asked to stop", async () => {
  await using tiny = await openTiny("veronica-tiny", { capacity: 300 });
  using session = openSession(tiny.decoder);
  const prompt = someIds(20, 1), text = [...prompt, ...someIds(100, 2)];
  await session.read(prompt);
  const before = tiny.prefills(), controller = new AbortController();
  setImmediate(() => controller.abort()); // comes between two pieces
  await session.settle(text, controller.signal);
  assert.equal(tiny.prefills(), before + 1);
  const { signal } = new AbortController(), longer = [...text, ...someIds(10, 3)];
  await session.settle(text, signal);
  assert.equal(tiny.prefills(), before + 4); // 100 tokens are pieces of 32, 32, 32 and 4
  await session.settle(text, signal);
  assert.equal(tiny.prefills(), before + 4);
  assert.deepEqual(await session.read(longer), { kept: 119, read: 10 });
  // the text before is still known
  assert.deepEqual(await session.read([...prompt, 1, 2]), { kept: 19, read: 2 });
});

for (const name of [...tinyNames, "shakespeare-char"]) {
  Deno.test(`${name}: a text that grows, and is taken back, goes on as it would alone`, () =>
    checkTurns(name, "cpu", 20));
}

webgpuTest(
  "neollm-tiny: a text that grows, and is taken back, on WebGPU",
  () => checkTurns("neollm-tiny", "webgpu", 4),
);
