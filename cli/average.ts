/**
 * `quern average`: the mean of several models' weights, as a run.
 *
 * @module
 */
import {
  Command,
  type CommandUnknownOpts,
  InvalidArgumentError,
  Option,
} from "@commander-js/extra-typings";
import { plural, shellWord, significant } from "../core/io/words.ts";
import { parseNumber, parsePath } from "./options.ts";
import { formatCount } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";
import { version } from "./version.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";

const help = `
All must be of one model and one tokenizer: checkpoints of a run, or runs that began alike and differ in data, seed or
learning rate. Sums are made in double precision. Config and schedules are those of the one with the most updates.
The result generates, is measured and exported, and quern pretrain --from begins with it; it has no optimizer's state.

Examples:
  quern average runs/a/checkpoints/step-1000 runs/a/checkpoints/step-2000 --out runs/mean
  quern average runs/a runs/b runs/c --weights 2,1,1 --out runs/soup
  quern average runs/a runs/b --average ema --out runs/mean-of-emas`;

/** The command with its options. */
export function averageCommand(): CommandUnknownOpts {
  return new Command("average")
    .summary("make one model of several: the mean of their weights")
    .description("Makes a run whose weights are the mean of several models' weights.")
    .argument("<models...>", `two or more: ${modelArgument}`)
    .requiredOption("--out <folder>", "run folder", parsePath)
    .addOption(
      new Option("--weights <list>", "how much each counts, as 2,1,1 (default: all alike)")
        .argParser(numbers),
    )
    .addOption(checkpointOption())
    .addOption(averageOption())
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (from, { out, weights, checkpoint, average, json, quiet }) => {
      const { averageModels } = await import("../core/open/mod.ts");
      const averaged = await averageModels({
        from,
        weights,
        which: { checkpoint, average },
        out,
        session: { version, command: ["quern", ...Deno.args] },
      });
      if (json) console.log(JSON.stringify({ out, ...averaged }));
      if (json || quiet) return;
      const lines = averaged.from.map(({ checkpoint, step, part }) =>
        `  ${significant(100 * part)} % of ${checkpoint} (step ${formatCount(step)})`
      );
      const { params, step } = averaged;
      const sum = `${out}: the mean of ${plural(from.length, "model")}, ` +
        `${formatCount(params)} parameters, at step ${formatCount(step)}, the latest of theirs`;
      printFolded([sum, ...lines].join("\n"));
      console.error(`try it: quern generate ${shellWord(out)}`);
    });
}

/** Numbers with commas between them. */
function numbers(text: string): number[] {
  const parts = text.split(",").map((part) => parseNumber(part.trim()));
  if (parts.every((part) => part >= 0)) return parts;
  throw new InvalidArgumentError("A weight is not below 0.");
}
