import assert from "node:assert/strict";
import { join } from "node:path";
import { appendRecord, cutBack } from "../../../core/train/records.ts";
import { recorded } from "../../../core/train/recorded.ts";
import type { EndReason, TrainEvent } from "../../../core/train/mod.ts";
import { type ReadEvent, readEvents } from "../report/event_reader.ts";
import { withTempDir } from "../../support.ts";

/** Steps of a run that writes its metrics, as the loop of training does. */
async function* training(
  run: string,
  from: number,
  to: number,
  reason: EndReason = "steps",
): AsyncGenerator<TrainEvent> {
  const metrics = join(run, "metrics.jsonl");
  await cutBack(metrics, from);
  yield { kind: "start", step: from, deviceBytes: 0 };
  for (let step = from + 1; step <= to; step++) {
    appendRecord(metrics, { step, loss: 1 / step, "router.alpha": [0.25, 0.75] });
    yield { kind: "checkpoint", step, path: "" };
    const told = { loss: 1 / step, norm: 1, learningRate: 1, tokens: 1, tokensPerSecond: 1 };
    yield { kind: "step", step, ...told, watched: {} };
  }
  yield { kind: "end", step: to, reason };
}

async function eventsIn(run: string): Promise<ReadEvent[][]> {
  const folder = join(run, "tensorboard"),
    names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  return await Promise.all(
    names.sort().map(async (name) => readEvents(await Deno.readFile(join(folder, name)))),
  );
}

const reportIn = (run: string) => Deno.readTextFile(join(run, "report.html"));
const stateIn = (html: string) => html.match(/<dt>state<\/dt><dd>([^<]*)/)?.[1];

Deno.test("pretrain: the events that are recorded are those that happen, and the end has a report", () =>
  withTempDir(async (run) => {
    const log = { run, log: [] };
    await Deno.writeTextFile(join(run, ".report.html.partial-4194305-ab"), "a kill left it");
    const passed = await Array.fromAsync(recorded(log, training(run, 0, 3)));
    await cutBack(join(run, "metrics.jsonl"), 0);
    assert.deepEqual(passed, await Array.fromAsync(training(run, 0, 3)));
    const names = [...Deno.readDirSync(run)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["metrics.jsonl", "report.html"]);
    assert.equal(stateIn(await reportIn(run)), "done");
    await Array.fromAsync(recorded(log, training(run, 3, 4, "interrupted")));
    assert.equal(stateIn(await reportIn(run)), "interrupted");
  }));

Deno.test("pretrain: a run that fails says so in its report, and with its own error", () =>
  withTempDir(async (run) => {
    async function* failing(): AsyncGenerator<TrainEvent> {
      for await (const event of training(run, 0, 2)) if (event.kind !== "end") yield event;
      throw new Error("step 3 is not finite");
    }
    const failed = Array.fromAsync(recorded({ run, log: [] }, failing()));
    await assert.rejects(failed, /^Error: step 3 is not finite$/);
    assert.equal(stateIn(await reportIn(run)), "failed");
  }));

Deno.test("pretrain: a run goes on where its report or its log cannot be written, and says so once", () =>
  withTempDir(async (run) => {
    await Deno.mkdir(join(run, "report.html/taken"), { recursive: true });
    await Deno.writeTextFile(join(run, "tensorboard"), "no folder");
    const events = await Array.fromAsync(
      recorded({ run, log: ["tensorboard"] }, training(run, 0, 5)),
    );
    const troubles = events.filter((event) => event.kind === "unrecorded");
    assert.deepEqual(troubles.map(({ path }) => path).sort(), [
      join(run, "report.html"),
      join(run, "tensorboard"),
    ]);
    assert.equal(events.at(-1)?.kind, "unrecorded"); // after the end, which was told
    assert.ok(events.some(({ kind }) => kind === "end"));
  }));

Deno.test("pretrain: TensorBoard gets each logged number once, whatever was cut back and done again", () =>
  withTempDir(async (run) => {
    const log = { run, log: ["tensorboard"] } as const;
    await Array.fromAsync(recorded(log, training(run, 0, 5)));
    await Array.fromAsync(recorded(log, training(run, 3, 6))); // from a checkpoint of step 3, at once
    const [first, second, ...more] = await eventsIn(run);
    assert.deepEqual(more, []);
    for (const [version] of [first, second]) assert.equal(version.version, "brain.Event:2");
    const alpha = [["router.alpha/0", 0.25], ["router.alpha/1", 0.75]];
    const expected = (step: number) => [step, [["loss", Math.fround(1 / step)], ...alpha]];
    const scalars = (events: ReadEvent[]) =>
      events.filter((event) => event.scalars).map(({ step, scalars }) => [step, scalars]);
    assert.deepEqual(scalars(first), [1, 2, 3, 4, 5].map(expected));
    // what the first file has from step 4 on is void: a session starts there
    assert.deepEqual([second[1].step, second[1].sessionStatus], [4, 1]);
    assert.deepEqual(scalars(second), [4, 5, 6].map(expected));
    await Array.fromAsync(recorded(log, training(run, 0, 1))); // started over, as before a first checkpoint
    const third = (await eventsIn(run))[2];
    assert.deepEqual([third[1].step, third[1].sessionStatus], [1, 1]);
    const times = second.map(({ wallTime }) => wallTime!);
    assert.ok(Math.abs(times[0] - Date.now() / 1000) < 60 && times.at(-1)! >= times[0]);
  }));
