/**
 * `quern eval`: what a model is worth.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import {
  addBitsOptions,
  type BitsChoice,
  bitsExamples,
  bitsHelp,
  evaluateBits,
} from "./eval_bits.ts";
import {
  addCompareOptions,
  type CompareChoice,
  compareExamples,
  compareHelp,
  compareTwo,
  twoPaths,
} from "./eval_compare.ts";
import {
  addTaskOptions,
  evaluateTasks,
  listTasks,
  type TaskChoice,
  tasksExamples,
  tasksHelp,
} from "./eval_tasks.ts";
import { wholeNumber } from "./options.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";

const help = `
${tasksHelp}

${compareHelp}

${bitsHelp}

Examples:
${tasksExamples}
${compareExamples}
${bitsExamples}`;

/** The command with its options. */
export function evalCommand(): CommandUnknownOpts {
  const command = new Command("eval")
    .summary("measure a model on tasks and texts, and compare two")
    .description("Measures a model: on tasks, or on how well it foretells a text.")
    .argument("[model]", modelArgument)
    .addOption(checkpointOption())
    .addOption(averageOption())
    .addOption(
      new Option("--batch <n>", "rows at once; no result depends on it").argParser(wholeNumber(1)),
    );
  for (const add of [addTaskOptions, addCompareOptions, addBitsOptions]) add(command);
  return command
    .optionsGroup("Device and output:")
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "show no progress", false)
    .addHelpText("after", help)
    .action(async (model, own, command) => {
      const options = own as typeof own & AddedChoices; // by the functions above
      const { bitsPerByte, tasks, compare } = options;
      requireOne({ "--tasks": tasks, "--compare": compare, "--bits-per-byte": bitsPerByte });
      refuseOthers(command, tasks ? "Tasks:" : compare ? "Comparison:" : "Bits per byte:");
      if (compare) return await compareTwo(twoPaths(compare, model), options);
      if (tasks?.join() === "list") return await listTasks(options);
      if (model === undefined) {
        throw new UserError("no model is named", {
          hint:
            "quern eval MODEL …: a run folder, one of its checkpoints, or a Hugging Face folder",
        });
      }
      if (tasks) return await evaluateTasks(model, { ...options, tasks });
      await evaluateBits(model, { ...options, bitsPerByte: bitsPerByte! });
    });
}

/** What the options of each kind of measurement come to; one kind is asked for. */
type AddedChoices =
  & Asked<TaskChoice, "tasks">
  & Asked<BitsChoice, "bitsPerByte">
  & CompareChoice
  & { readonly compare?: readonly string[] | undefined };

type Asked<Choice, Name extends keyof Choice> =
  & Omit<Choice, Name>
  & { readonly [K in Name]?: Choice[K] | undefined };

/** Refuses options of what is not measured, which would do nothing. */
function refuseOthers(command: CommandUnknownOpts, heading: string): void {
  for (const option of command.options) {
    const { helpGroupHeading: group, long } = option;
    const isGiven = command.getOptionValueSource(option.attributeName()) === "cli";
    const asker = group === heading ? undefined : headings.get(group ?? "");
    if (!isGiven || asker === undefined) continue;
    throw new UserError(`${long} does nothing here: it goes with ${asker}`, {
      hint: "leave it out",
    });
  }
}

/** Headings of the help, by the option that asks for what is below. */
const headings = new Map([
  ["Tasks:", "--tasks"],
  ["Comparison:", "--compare"],
  ["Bits per byte:", "--bits-per-byte"],
]);

/** Refuses nothing and several things to measure. */
function requireOne(choices: Readonly<Record<string, unknown>>): void {
  const given = Object.keys(choices).filter((name) => choices[name] !== undefined);
  if (given.length === 1) return;
  if (given.length > 1) throw new UserError(`${given.join(" and ")}: one at a time`);
  throw new UserError("there is nothing to measure", {
    hint: "--tasks NAMES asks it tasks, --bits-per-byte FILE measures how well it foretells a " +
      "text, --compare A B compares results",
  });
}
