/**
 * How the sources of a run are shown: what they will give, and what they gave.
 *
 * @module
 */
import type { PlannedConfig, SourcePlan } from "../core/train/mod.ts";
import { formatCount, formatQuantity } from "./ui/numbers.ts";

/** Shares and epochs over the run, for the dry run. */
export function describeData(
  sources: readonly SourcePlan[],
  { sources: mixed, packing }: PlannedConfig["data"],
): string[] {
  const epochs = ({ epochs, path }: SourcePlan) => {
    if (epochs === undefined) return `${path} is not here`;
    if (epochs === Infinity) return "as often as the time allows";
    const count = epochs.toLocaleString("en-US", { maximumSignificantDigits: 3 });
    return packing === "windows"
      ? `random windows, ${count} times its length`
      : `${count} ${count === "1" ? "epoch" : "epochs"}`;
  };
  const tokens = ({ tokens }: SourcePlan) =>
    tokens === Infinity ? "" : `${formatQuantity(tokens)} tokens, `;
  if (!mixed) return [`data                  ${sources[0].name}: ${epochs(sources[0])}`];
  return [
    "data",
    ...sources.map((source) =>
      `  ${source.name.padEnd(20)}${percent(source.share).padStart(15)}  ${shift(source)}${
        tokens(source)
      }${epochs(source)}`
    ),
  ];
}

/** "from 70 % to 85 %, " where a share changes. */
function shift({ firstShare, lastShare }: SourcePlan): string {
  const [first, last] = [percent(firstShare), percent(lastShare)];
  return first === last ? "" : `from ${first} to ${last}, `;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** A source under the names that scripts see. */
export function namesOfSource(source: SourcePlan): Record<string, unknown> {
  const { name, path, share, firstShare, lastShare, tokens, epochs } = source;
  return {
    name,
    path,
    share,
    first_share: firstShare,
    last_share: lastShare,
    tokens,
    epochs: epochs ?? null,
  };
}

/** What each source gave: "tokens: math 7,168 (70.0 %), code 3,072 (30.0 %)". */
export function givenText(given: Readonly<Record<string, number>>): string {
  const all = Object.values(given).reduce((a, b) => a + b, 0);
  const parts = Object.entries(given).map(([name, tokens]) =>
    `${name} ${formatCount(tokens)} (${percent(all > 0 ? tokens / all : 0)})`
  );
  return `tokens: ${parts.join(", ")}`;
}
