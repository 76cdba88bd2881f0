import assert from "node:assert/strict";
import { join } from "node:path";
import { type Device, openDevice, OutOfMemoryError } from "../../../core/device/mod.ts";
import { generateAll } from "../../../core/eval/generate.ts";
import type { Generated, GenerateRequest } from "../../../core/eval/types.ts";
import { generateBatch, openModel } from "../../../core/generate/mod.ts";
import { openAny, type OpenedModel } from "../../../core/open/mod.ts";
import { webgpuTest, withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "../train/tiny_run.ts";

const attention = { ...tinyConfig("").model, max_position_embeddings: 64 };
/** Its state holds sums of what was read, and places besides. */
const sums = {
  hidden_size: 16,
  max_position_embeddings: 64,
  blocks: [
    {
      mixer: { kind: "gated_delta", num_key_heads: 2, key_head_dim: 4, value_head_dim: 4 },
      mlp: { kind: "swiglu", intermediate_size: 24 },
    },
    {
      mixer: { kind: "attention", num_attention_heads: 2 },
      mlp: { kind: "swiglu", intermediate_size: 24 },
    },
  ],
};

const shots = "Q: 1 + 2? A: 3. Q: 2 + 2? A: 4. ";
const texts = [
  `${shots}Q: 3 + 4? A:`,
  "Once",
  `${shots}Q: 3 + 5? A:`,
  "A",
  `${shots}Tell`,
  "It was a sunny day, and Clara",
  shots,
  "Once upon a time",
  `${shots}Q: 3 + 4? A:`,
];

async function withRun(
  model: Record<string, unknown>,
  use: (opened: OpenedModel, device: Device, run: string) => Promise<void>,
  kind: "cpu" | "webgpu" = "cpu",
): Promise<void> {
  await withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    await train(tinyConfig(data, { steps: 30, log_every: 30, model }), { run });
    await using device = await openDevice({ device: kind, blas: "off", threads: 1 });
    using opened = await openAny(run);
    await use(opened, device, run);
  });
}

function requestsFor(
  { tokenizer }: OpenedModel,
  rest: Partial<GenerateRequest> = {},
): GenerateRequest[] {
  return texts.map((text, i) => ({
    context: tokenizer.encode(text),
    stops: [],
    stop_ids: [],
    max_new_tokens: 5 + i,
    ...rest,
  }));
}

async function collect(made: AsyncIterable<Generated>): Promise<Generated[]> {
  const found: Generated[] = [];
  for await (const each of made) found.push(each);
  return found.sort((a, b) => a.index - b.index);
}

for (const [name, model] of Object.entries({ attention, sums })) {
  Deno.test(`generate all: each text is what its prompt gives alone, in any batch (${name})`, () =>
    withRun(model, async (opened, device, run) => {
      const requests = requestsFor(opened);
      const alone = await collect(generateAll(opened, device, requests, { batch: 1 }));
      assert.deepEqual(alone.map(({ index }) => index), texts.map((_, i) => i));
      for (const batch of [2, 3, 8, undefined]) {
        assert.deepEqual(await collect(generateAll(opened, device, requests, { batch })), alone);
      }
      using single = await openModel(run, device);
      for (const [i, { max_new_tokens: maxTokens }] of requests.entries()) {
        const sampling = { temperature: 0, topK: 0, topP: 1, seed: 1 };
        const plain = { ...single, beginning: undefined };
        const { texts: [made] } = await generateBatch(plain, [texts[i]], { maxTokens, sampling });
        assert.deepEqual([alone[i].text, alone[i].tokens], [made.text, made.tokens], texts[i]);
      }
    }));
}

Deno.test("generate all: texts end at stops, at ids, at their number of tokens, and with the context", () =>
  withRun(attention, async (opened, device) => {
    const whole = await collect(generateAll(opened, device, requestsFor(opened)));
    const { text } = whole[1], stop = text[2];
    const stopped = await collect(
      generateAll(opened, device, requestsFor(opened, { stops: [stop] })),
    );
    assert.equal(stopped[1].text, text.slice(0, text.indexOf(stop)));
    const [id] = opened.tokenizer.encode(text);
    const ended = await collect(
      generateAll(opened, device, requestsFor(opened, { stop_ids: [id] })),
    );
    assert.deepEqual([ended[1].text, ended[1].tokens], ["", 1]);
    assert.deepEqual(whole.map(({ tokens }) => tokens), texts.map((_, i) => 5 + i));
    // a prompt of 60 tokens is cut, so that 30 more find room
    const context = opened.tokenizer.encode("x".repeat(26) + "It was a sunny day, and Clara was s");
    const long = requestsFor(opened, { context, max_new_tokens: 30 }).slice(0, 1);
    const cut = requestsFor(opened, { context: context.slice(-34), max_new_tokens: 30 }).slice(
      0,
      1,
    );
    const made = await collect(generateAll(opened, device, long));
    assert.deepEqual(made, await collect(generateAll(opened, device, cut)));
    const most = requestsFor(opened, { max_new_tokens: 1000 }).slice(0, 1);
    const [{ tokens }] = await collect(generateAll(opened, device, most));
    assert.equal(tokens, 64);
    assert.deepEqual(await collect(generateAll(opened, device, [])), []);
  }));

Deno.test("generate all: a device with less memory makes fewer texts at once, unless it is told how many", () =>
  withRun(attention, async (opened, device) => {
    const requests = requestsFor(opened), tried: number[] = [];
    const small = new Proxy(device, {
      get(_, name) {
        const found = Reflect.get(device, name, device);
        if (name !== "createState") return typeof found === "function" ? found.bind(device) : found;
        return (entries: Parameters<Device["createState"]>[0]) => {
          const rows = entries.find(({ name }) => name === "start")!.shape[0];
          tried.push(rows);
          if (rows > 2) throw new OutOfMemoryError("too much");
          return device.createState(entries);
        };
      },
    });
    const expected = await collect(generateAll(opened, device, requests));
    assert.deepEqual(await collect(generateAll(opened, small, requests)), expected);
    assert.deepEqual(tried, [texts.length, 4, 2]);
    await assert.rejects(collect(generateAll(opened, small, requests, { batch: 3 })), /too much/);
  }));

Deno.test("generate all: what is asked to stop, stops", () =>
  withRun(attention, async (opened, device) => {
    const aborting = new AbortController(), found: Generated[] = [];
    const options = { batch: 1, signal: aborting.signal };
    for await (const each of generateAll(opened, device, requestsFor(opened), options)) {
      found.push(each);
      aborting.abort();
    }
    assert.equal(found.length, 1);
  }));

webgpuTest(
  "generate all: the GPU's rows do not depend on each other",
  () =>
    withRun(sums, async (opened, device) => {
      const requests = requestsFor(opened).slice(0, 5);
      const alone = await collect(generateAll(opened, device, requests, { batch: 1 }));
      assert.deepEqual(await collect(generateAll(opened, device, requests, { batch: 3 })), alone);
    }, "webgpu"),
);
