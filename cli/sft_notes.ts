/**
 * What `quern sft` says of a run before it trains: what it decided, and what became of the conversations.
 *
 * @module
 */
import { plural } from "../core/io/words.ts";
import type { OpenConversations, Prepared, SftBase, SftConfig } from "../core/sft/mod.ts";
import type { PlannedConfig } from "../core/train/mod.ts";
import type { Resolved } from "./run_memory.ts";
import { formatCount } from "./ui/numbers.ts";

/** What notes are made from. */
export interface SftKnown {
  readonly base: SftBase;
  readonly prepared: Prepared;
  /** Rows of an epoch, of each source. */
  readonly rows: readonly number[];
}

/** What the config left open, with the rule that filled it, and what may not be meant so. */
export async function sftNotes(
  given: SftConfig,
  { config, memory }: Resolved<PlannedConfig>,
  { base, prepared, rows }: SftKnown,
): Promise<string[]> {
  const { autoNumbers, doubtsOf } = await import("../core/train/mod.ts");
  const derived = [
    ...autoNumbers(given, config, memory),
    ...lengthInSteps(given, config, rows),
    ...bucketsOf(given, config),
  ];
  return [
    ...baseNotes(given, base),
    ...prepared.sources.map(sourceNote),
    ...derived.map(({ name, value, rule }) => `${name} ${value} = ${rule}`),
    ...doubtsOf(config).map((doubt) => `note: ${doubt}`),
    ...doubts(config).map((doubt) => `note: ${doubt}`),
  ];
}

function baseNotes(given: SftConfig, { facts, added, addedRows, frozen }: SftBase): string[] {
  const notes: string[] = [];
  if (given.template === undefined) notes.push(`template ${facts.template}`);
  if (given.beginning === undefined && facts.beginning !== null) {
    notes.push(`beginning ${facts.beginning} = the token before each text that the model learned`);
  }
  for (const [name, value] of Object.entries(frozen)) {
    notes.push(`model: ${name} stays at ${value}, where pretraining left it`);
  }
  if (added.length > 0) {
    const rows = addedRows > 0 ? `${plural(addedRows, "row")} for them, and` : "";
    notes.push(
      `the tokenizer gets ${added.join(", ")}; the model's tables get ${rows} mean values there`,
    );
  }
  return notes;
}

function sourceNote({ path, train, val, counts }: Prepared["sources"][number]): string {
  const { conversations, truncated, dropped, masked, skipped } = counts;
  const lost = [
    [truncated, "cut at the row's end"],
    [dropped, "left out as too long"],
    [masked, "left out with nothing to learn"],
    [skipped, "left out with faults"],
  ].flatMap(([count, what]) => count === 0 ? [] : [`${formatCount(Number(count))} ${what}`]);
  const parts = [
    plural(conversations, "conversation"),
    ...val.conversations > 0 ? [`${formatCount(val.conversations)} held out`] : [],
    ...lost,
    `${formatCount(train.tokens)} tokens to train on, ${
      formatCount(train.targets)
    } of them learned`,
  ];
  return `${path}: ${parts.join(", ")}`;
}

type Derived = { name: string; value: number | string; rule: string };

function lengthInSteps(
  { epochs }: SftConfig,
  { steps, batch_size }: PlannedConfig,
  rows: readonly number[],
): Derived[] {
  if (epochs == null || steps === undefined) return [];
  const all = rows.reduce((a, b) => a + b, 0);
  const rule = `epochs ${epochs} × ${plural(all, "row")} / batch_size ${batch_size}`;
  return [{ name: "steps", value: steps, rule }];
}

function bucketsOf(given: SftConfig, { data }: PlannedConfig): Derived[] {
  if (data.packing !== "buckets" || given.data.bucket_lengths) return [];
  return [{
    name: "data.bucket_lengths",
    value: `${data.bucket_lengths}`,
    rule: "a quarter and half of sequence_length",
  }];
}

/** Parts that look at whole rows see all that is packed into one. */
function doubts({ model, data }: PlannedConfig): string[] {
  const pools = JSON.stringify(model).includes('"pooling":"sequence"');
  return pools && data.packing === "packed"
    ? [
      "the model pools over whole rows: packed conversations see each other; data.packing: buckets",
    ]
    : [];
}

/** Says whose validation loss there will not be. */
export function sftRemarks({ prepared: { sources } }: OpenConversations): string[] {
  return sources.some(({ val }) => val.conversations > 0)
    ? []
    : ["no validation loss: nothing is held out (data.validation)"];
}
