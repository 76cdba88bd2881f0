/** What conversations become before they are trained on: cut, left out, counted. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { openConversations } from "../../../core/data/conversation_store.ts";
import {
  type ConversationForm,
  prepareConversations,
  type Prepared,
  sftConfig,
} from "../../../core/sft/mod.ts";
import { chatml } from "../../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../../core/text/special_tokens.ts";
import { byteTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { makeBase, sums, tinyTuning, tune, writePairs } from "./tiny_sft.ts";

const tokenizer = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
const form: ConversationForm = { template: chatml, tokenizer, beginning: undefined };
const endOfTurn = tokenizer.specialTokens.get("<|im_end|>")!;

/** Prepares a file, all of it for training, and reads it back. */
async function prepare(
  path: string,
  data: Record<string, unknown> = {},
  changes: Record<string, unknown> = {},
): Promise<Prepared["sources"][number] & { all: { ids: Int32Array; weights: Float32Array }[] }> {
  const config = sftConfig.parse(
    tinyTuning("none", path, { data: { validation: { fraction: 0 }, ...data }, ...changes }),
  );
  return await withTempDir(async (folder) => {
    const { sources: [source] } = await prepareConversations(folder, { config, form });
    using reader = openConversations(folder, source.train);
    const all = Array.from({ length: reader.count }, (_, i) => reader.read(i));
    return { ...source, all };
  });
}

const inFile = (
  pairs: readonly (readonly [string, string])[],
  use: (path: string) => Promise<void>,
) => withTempDir(async (dir) => await use(await writePairs(join(dir, "chat.jsonl"), pairs)));

const long = ["Q", "a".repeat(60)] as const, short = ["Q", "A"] as const;

for (const packing of ["packed", "buckets"]) {
  // karpathy/nanochat PR 811: conversations longer than a row filled the packing buffer, for ever.
  Deno.test(`replay: nanochat PR 811: half of the conversations are too long: counted, and the epoch ends (${packing})`, () =>
    withTempDir(async (dir) => {
      const base = await makeBase(dir);
      const pairs = sums(12).flatMap(([question]) =>
        [[question, "7"], [question, "9".repeat(90)]] as const
      );
      const path = await writePairs(join(dir, "chat.jsonl"), pairs);
      for (const overlong of ["truncate", "drop"]) {
        const data = { packing, overlong, validation: { fraction: 0 } };
        const length = { steps: undefined, epochs: 2 };
        const config = tinyTuning(base, path, { data, batch_size: 2, ...length });
        const { events, prepared } = await tune(config, { run: join(dir, overlong) });
        const [{ counts, train }] = prepared.sources;
        assert.deepEqual(
          [counts.conversations, counts.truncated, counts.dropped, train.conversations],
          overlong === "truncate" ? [24, 12, 0, 24] : [24, 0, 12, 12],
        );
        const losses = events.flatMap((event) => event.kind === "step" ? [event.loss] : []);
        assert.ok(losses.length > 0 && losses.every((loss) => Number.isFinite(loss) && loss > 0));
        const end = events.at(-1)!;
        assert.ok(end.kind === "end" && end.reason === "steps");
      }
    }));
}

Deno.test("sft: overlong: error names the record, its length and the row's", () =>
  inFile([short, long], async (path) => {
    await assert.rejects(
      prepare(path, { overlong: "error" }),
      (error: Error & { where?: string }) => {
        assert.match(error.message, /the conversation has \d+ tokens to be read, a row 32/);
        assert.equal(error.where, `${path}:2`);
        return true;
      },
    );
  }));

// trl 6668, PR 6320; nanochat PR 619, 662: a fully masked batch gave NaN, or a cheerful 0.0.
Deno.test("replay: trl 6668: a prompt longer than the row leaves nothing to learn: left out, counted, and never alone", () =>
  inFile([["Q".repeat(50), "A"], short], async (path) => {
    const { counts, all } = await prepare(path);
    assert.deepEqual([counts.masked, counts.truncated, all.length], [1, 0, 1]);
    assert.ok(all[0].weights.some((weight) => weight > 0));
    await inFile([["Q".repeat(50), "A"]], async (alone) => {
      await assert.rejects(prepare(alone), {
        message: /no conversation is left to train on/,
        hint: /1 left out, without anything to learn; what is cut behind \d+ tokens/,
      });
    });
  }));

// torchtune 2792: a maximum length masked the end token even where nothing was cut.
Deno.test("replay: torchtune 2792: a limit that cuts nothing changes nothing; what is cut has no false end", () =>
  inFile([short, long], async (path) => {
    const wide = await prepare(path, {}, { sequence_length: 90 });
    // the short one fits to the token: ids and weights are those without a limit
    const exact = await prepare(path, {}, { sequence_length: wide.all[0].ids.length - 1 });
    assert.deepEqual(exact.all[0], wide.all[0]);
    const end = exact.all[0].ids.lastIndexOf(endOfTurn);
    assert.equal(exact.all[0].weights[end], 1);
    assert.equal(exact.counts.truncated, 1);
    const { ids, weights } = exact.all[1];
    assert.equal(ids.length, exact.all[0].ids.length);
    assert.deepEqual(ids, wide.all[1].ids.slice(0, ids.length));
    assert.deepEqual(weights, wide.all[1].weights.slice(0, ids.length));
    assert.equal(ids.lastIndexOf(endOfTurn), ids.indexOf(endOfTurn)); // the user's alone
  }));

Deno.test("sft: a record with a fault ends the work, or is left out, counted and named", () =>
  withTempDir(async (dir) => {
    const path = join(dir, "chat.jsonl");
    await Deno.writeTextFile(
      path,
      '{"question": "a", "answer": "b"}\n{"question": "c"}\n{"question": "d", "answer": "e"}\n',
    );
    await assert.rejects(prepare(path), ({ where }: { where: string }) => where === `${path}:2`);
    const { counts, all } = await prepare(path, { on_error: "skip" });
    assert.deepEqual([counts.conversations, counts.skipped, all.length], [3, 1, 2]);
  }));

Deno.test("sft: loss_on last weighs the last answer alone; a message's weight is its targets'", () =>
  withTempDir(async (dir) => {
    const path = join(dir, "chat.jsonl");
    const turn = (role: string, content: string, weight?: number) => ({
      role,
      content,
      ...weight !== undefined && { weight },
    });
    const messages = [
      turn("user", "a"),
      turn("assistant", "b", 0.5),
      turn("user", "c"),
      turn("assistant", "d"),
    ];
    await Deno.writeTextFile(path, `${JSON.stringify({ messages })}\n`);
    const weights = async (loss_on: string) => {
      const { all: [{ weights }], train } = await prepare(path, {}, {
        loss_on,
        sequence_length: 99,
      });
      return [[...new Set(weights)].sort(), train.targets, train.weight];
    };
    // an answer of one byte and its end, twice
    assert.deepEqual(await weights("all"), [[0, 0.5, 1], 4, 3]);
    assert.deepEqual(await weights("last"), [[0, 1], 2, 2]);
  }));

Deno.test("sft: validation has its own files, or a part that depends on the seed alone", () =>
  withTempDir(async (dir) => {
    const base = await makeBase(dir);
    const path = await writePairs(join(dir, "chat.jsonl"), sums(20));
    const measured = await writePairs(join(dir, "val.jsonl"), sums(5));
    const own = await tune(
      tinyTuning(base, path, { steps: 1, data: { validation: { path: measured } } }),
      { run: join(dir, "own") },
    );
    assert.deepEqual(
      own.prepared.sources.map(({ train, val }) => [train.conversations, val.conversations]),
      [[20, 0], [0, 5]],
    );
    const validation = own.events.find((event) => event.kind === "validation")!;
    assert.equal(validation.targets, own.prepared.sources[1].val.weight);
  }));
