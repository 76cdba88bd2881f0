/** What a run leaves of its events besides metrics and checkpoints: `report.html`, and TensorBoard's files where they are wanted. */

import { join } from "node:path";
import { removePartials, writeFileAtomic } from "../io/atomic.ts";
import { messageOf } from "../io/errors.ts";
import { openEventFile } from "../report/event_file.ts";
import { openRunReader, runReport } from "../report/mod.ts";
import { pace } from "../report/pace.ts";
import { recordIn, scalarsIn } from "../report/records.ts";
import { followLines } from "../report/tail.ts";
import type { EndReason, TrainEvent } from "./events.ts";
import type { LogKind } from "./log_config.ts";
import { metricsFile, reportFile } from "./run_files.ts";

interface Recording {
  readonly run: string;
  readonly log: readonly LogKind[];
}

/**
 * Hands events on, and records meanwhile. Nothing that goes wrong here ends a run: it is told once, and tried again. The last
 * report says how the run ended, also where an error ended it.
 */
export async function* recorded(
  { run, log }: Recording,
  events: AsyncIterable<TrainEvent>,
): AsyncGenerator<TrainEvent, void> {
  const report = reporter(run);
  const tensorboard = log.includes("tensorboard") ? tensorboardOf(run) : undefined;
  const told = new Set<string>();
  const trouble = async (path: string, work: () => Promise<void>): Promise<TrainEvent[]> => {
    try {
      await work();
      return [];
    } catch (error) {
      const message = messageOf(error);
      if (told.has(message)) return [];
      told.add(message);
      return [{ kind: "unrecorded", path, message }];
    }
  };
  let state = "failed", hasBegun = false;
  try {
    for await (const event of events) {
      if (event.kind === "start") hasBegun = true;
      if (event.kind === "end") state = endings[event.reason];
      yield event;
      if (!hasBegun) continue;
      if (tensorboard) yield* await trouble(join(run, "tensorboard"), () => tensorboard(event));
      if (event.kind === "end") yield* await trouble(report.path, () => report.write(state));
      else if (report.isDue()) yield* await trouble(report.path, () => report.write("training"));
    }
  } catch (error) {
    if (hasBegun) await trouble(report.path, () => report.write(state)); // the error is what matters
    throw error;
  }
}

/** How a run ended, for its report. */
const endings: Record<EndReason, string> = {
  steps: "done",
  tokens: "done",
  early_stop: "stopped early",
  finished: "done",
  time: "stopped by max_minutes",
  interrupted: "interrupted",
};

function reporter(run: string) {
  const path = join(run, reportFile), read = openRunReader(run), { isDue, spend } = pace();
  let isFirst = true;
  return {
    path,
    isDue,
    write: (state: string) =>
      spend(async () => {
        if (isFirst) await removePartials(run, reportFile); // a kill may have left some
        isFirst = false;
        const data = await read(state);
        await writeFileAtomic(path, runReport([data], { writtenAt: new Date() }));
      }),
  };
}

/** Takes lines of metrics to an event file, once they are written. */
function tensorboardOf(run: string): (event: TrainEvent) => Promise<void> {
  let add: Awaited<ReturnType<typeof openEventFile>> | undefined, from = Infinity;
  const metrics = followLines(join(run, metricsFile), {
    line(text) {
      const record = recordIn(text);
      // those of earlier sessions stand in files of their own
      if (record && record.step > from) {
        add?.({ kind: "scalars", step: record.step, scalars: scalarsIn(record) });
      }
    },
    restart() {},
  });
  return async (event) => {
    if (event.kind === "start") {
      from = event.step;
      add = await openEventFile(run, from);
    }
    if (["start", "step", "validation"].includes(event.kind)) await metrics();
  };
}
