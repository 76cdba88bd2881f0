/** What a run says of a checkpoint of its own: the figures of its model card. */

import { basename, join } from "node:path";
import { exists } from "../io/atomic.ts";
import type { OpenedModel } from "../open/mod.ts";
import { metricsFile } from "../train/mod.ts";
import type { Figures } from "./card.ts";

/** From `metrics.jsonl` beside it, where there is one: what it says last up to the checkpoint's update. */
export async function figuresOf(
  { folder, step }: Pick<OpenedModel, "folder" | "step">,
  average?: string,
): Promise<Figures> {
  const path = join(folder, metricsFile);
  const lines = await exists(path) ? (await Deno.readTextFile(path)).split("\n") : [];
  const records = lines.flatMap((line) => recordIn(line) ?? []).filter((one) => one.step <= step);
  const last = (name: string, of?: string) => {
    const found = records.findLast((one) => typeof one[name] === "number" && one.weights === of);
    return found?.[name] as number | undefined;
  };
  return {
    name: basename(folder),
    step,
    tokens: last("tokens"),
    validation_loss: last("validation_loss", average),
    bits_per_byte: last("bits_per_byte", average),
    average,
  };
}

type Line = { readonly step: number } & Readonly<Record<string, unknown>>;

/** Undefined for what a kill left of a last line. */
function recordIn(line: string): Line | undefined {
  try {
    const value = JSON.parse(line);
    return typeof value?.step === "number" ? value : undefined;
  } catch {
    return undefined;
  }
}
