/**
 * `quern report`: the report of a run, or of several side by side.
 *
 * @module
 */
import { join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { exitCodes, UserError } from "../core/io/errors.ts";
import type { RunSummary } from "../core/report/mod.ts";
import { parsePath } from "./options.ts";

const help = `
A run writes its report.html itself, while it trains; this command makes it anew. Of several runs it
makes one page, report.html here: curves together, results, and where the configs differ.

Examples:
  quern report runs/shakespeare-char
  quern report runs/a runs/b --by tokens --out a-b.html
  quern report runs/* --json`;

/** What charts stand over. */
export function byOption() {
  return new Option("--by <axis>", "what charts stand over").choices(["step", "tokens"] as const)
    .default("step" as const);
}

/** The command with its options. */
export function reportCommand(): CommandUnknownOpts {
  return new Command("report")
    .summary("make a page of a run, or of several side by side")
    .description("Writes a report as one HTML file, and prints its path.")
    .argument("<runs...>", "run folders")
    .option(
      "--out <file>",
      "where to write it (default: report.html, of one run in its folder)",
      parsePath,
    )
    .addOption(byOption())
    .option("--json", "print what the runs came to, too, as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (runs, { out, by, json, quiet }) => {
      const { openRunReader, runReport, summaryOf } = await import("../core/report/mod.ts");
      const { writeFileAtomic } = await import("../core/io/atomic.ts");
      for (const run of runs) await requireRun(run);
      const data = await Promise.all(runs.map((run) => openRunReader(run)()));
      const path = out ?? (runs.length === 1 ? join(runs[0], "report.html") : "report.html");
      await writeFileAtomic(path, runReport(data, { by, writtenAt: new Date() }));
      if (json) {
        console.log(JSON.stringify({ report: path, runs: data.map(summaryOf).map(jsonOf) }));
      } else if (!quiet) console.log(path);
    });
}

async function requireRun(run: string): Promise<void> {
  const { exists } = await import("../core/io/atomic.ts");
  if (await exists(join(run, "config.yaml"))) return;
  throw new UserError("not a run folder: it has no config.yaml", {
    where: run,
    exitCode: exitCodes.usage,
  });
}

/** JSON has no NaN: what is not known is null. */
function jsonOf(
  { smoothedLoss, validationLoss, bitsPerByte, best, tokensPerSecond, ...rest }: RunSummary,
) {
  return {
    ...rest,
    smoothed_loss: smoothedLoss,
    validation_loss: validationLoss,
    bits_per_byte: bitsPerByte,
    lowest_validation_loss: best.loss,
    lowest_at_step: best.step,
    tokens_per_second: tokensPerSecond,
  };
}
