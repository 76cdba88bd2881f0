/**
 * `quern eval`: what a model is worth.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import { addBitsOptions, bitsExamples, bitsHelp, evaluateBits } from "./eval_bits.ts";
import { parsePath, wholeNumber } from "./options.ts";

const help = `
${bitsHelp}

Examples:
${bitsExamples}`;

/** The command with its options. */
export function evalCommand(): CommandUnknownOpts {
  const command = new Command("eval")
    .summary("measure a model")
    .description("Measures a model on text.")
    .argument("<model>", "run folder, one of its checkpoints, or a Hugging Face folder")
    .option(
      "--checkpoint <name>",
      "which of the run's: latest, best or step-N (default: latest)",
      parsePath,
    )
    .addOption(
      new Option("--average <kind>", "an average of the weights, where the run keeps one")
        .choices(["ema", "swa"] as const),
    )
    .addOption(
      new Option("--batch <n>", "rows at once; no result depends on it").argParser(wholeNumber(1)),
    );
  return addBitsOptions(command)
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
