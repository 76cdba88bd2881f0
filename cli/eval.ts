/**
 * `quern eval`: what a model is worth.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import { bitsExamples, bitsHelp, evaluateBits } from "./eval_bits.ts";
import { parsePath, parseText, wholeNumber } from "./options.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";
import { fieldOption } from "./reading_options.ts";

const help = `
${bitsHelp}

Examples:
${bitsExamples}`;

/** The command with its options. */
export function evalCommand(): CommandUnknownOpts {
  return new Command("eval")
    .summary("measure a model")
    .description("Measures a model on text.")
    .argument("<model>", modelArgument)
    .addOption(checkpointOption())
    .addOption(averageOption())
    .addOption(
      new Option("--batch <n>", "rows at once; no result depends on it").argParser(wholeNumber(1)),
    )
    .optionsGroup("Bits per byte:")
    .option(
      "--bits-per-byte <path>",
      "measure on text files (also a folder or pattern) or token shards",
      parsePath,
    )
    .addOption(
      new Option("--stride <n>", "slide the window by so many tokens (default: the context)")
        .argParser(wholeNumber(1)),
    )
    .addOption(
      new Option("--counting <way>", "each token once, or as others count")
        .choices(["once", "challenge", "harness"] as const).default("once" as const),
    )
    .addOption(
      new Option("--context <n>", "tokens of a window (default: as trained)")
        .argParser(wholeNumber(1)),
    )
    .addOption(
      new Option("--split <name>", "which part of token shards")
        .choices(["val", "train"] as const).default("val" as const),
    )
    .addOption(
      new Option("--max-tokens <n>", "measure the first so many alone (default: all)")
        .argParser(wholeNumber(1)),
    )
    .addOption(fieldOption())
    .option(
      "--document-separator <text>",
      "what stands between documents of a text file; \\n is a line feed",
      parseText,
    )
    .optionsGroup("Device and output:")
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "show no progress", false)
    .addHelpText("after", help)
    .action(async (model, options) => {
      const { bitsPerByte } = options;
      if (bitsPerByte === undefined) {
        throw new UserError("there is nothing to measure", {
          hint: "--bits-per-byte FILE measures how well the model foretells a text",
        });
      }
      await evaluateBits(model, { ...options, bitsPerByte });
    });
}
