/**
 * `quern config`: the configs that quern carries, and the checking of others.
 *
 * @module
 */
import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { exists } from "../core/io/atomic.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { builtinConfig, builtinConfigs, noSuchConfig, summaryOf } from "./builtin_configs.ts";
import { loadNamedAny } from "./named_config.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
Examples:
  quern config list
  quern config show shakespeare-char > my.yaml
  quern config check my.yaml
  quern config schema > schema.json
  quern config schema sft > sft-schema.json
  quern config show gsm8k > my_task.yaml`;

/** The command with its own commands. */
export function configCommand(): CommandUnknownOpts {
  return new Command("config")
    .summary("list, show and check configs")
    .description(
      "Lists and shows the configs that quern carries, checks others, and helps editors.",
    )
    .addHelpText("after", help)
    .hook("preSubcommand", (self, inner) => void inner.copyInheritedSettings(self))
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(checkCommand())
    .addCommand(schemaCommand());
}

function listCommand() {
  return new Command("list")
    .summary("list the configs that quern carries")
    .description(
      "Lists the configs that quern carries: quern pretrain and quern sft take their names.",
    )
    .option("--json", "one JSON object a line", false)
    .action(({ json }) => {
      const width = Math.max(...builtinConfigs.map(({ name }) => name.length));
      for (const config of builtinConfigs) {
        const summary = summaryOf(config), { name } = config;
        if (json) console.log(JSON.stringify({ name, summary }));
        else printFolded(`${name.padEnd(width)}  ${summary}`);
      }
    });
}

function showCommand() {
  return new Command("show")
    .summary("print one of them, comments and all")
    .description("Prints a config that quern carries, comments and all.")
    .argument("<name>", "as quern config list says, or the name of a task")
    .option("--json", "as it is understood, with all defaults, as one JSON object", false)
    .action(async (name, { json }) => {
      const found = builtinConfig(name), task = found ? undefined : await builtinTask(name);
      if (!found && !task) throw noSuchConfig(name, "quern carries no such config");
      // the schema lies beside the sources, not beside what is made from this
      if (!json) {
        const { text } = (found ?? task)!;
        return console.log(text.replace(/^# yaml-language-server:.*\n/, "").trimEnd());
      }
      if (!found) return console.log(JSON.stringify(task!.config));
      const { parseConfig } = await import("../core/io/config.ts");
      const { configKinds, kindOf } = await import("../core/train/mod.ts");
      console.log(JSON.stringify(parseConfig(configKinds[kindOf(found.text)], found)));
    });
}

function schemaCommand() {
  return new Command("schema")
    .summary("print the JSON schema of configs, for editors")
    .description(
      "Prints the JSON schema (draft 2020-12) by which editors complete and check configs.",
    )
    .addArgument(
      new Argument("[command]", "the command that takes such configs").choices(
        ["pretrain", "sft", "eval"] as const,
      ).default("pretrain" as const),
    )
    .addHelpText(
      "after",
      "\nWith it in a file, this first line of a config tells an editor:\n" +
        "  # yaml-language-server: $schema=schema.json",
    )
    .action(async (command) => {
      if (command === "eval") {
        const { taskSchema } = await import("../core/eval/tasks/mod.ts");
        return console.log(JSON.stringify(taskSchema(), null, 2));
      }
      const { configSchema } = await import("../core/train/mod.ts");
      console.log(JSON.stringify(configSchema(command), null, 2));
    });
}

function checkCommand() {
  return new Command("check")
    .summary("say what is wrong with config files")
    .description("Checks config files: every fault with its file, line and column.")
    .argument("<files...>", "YAML files, or names of quern config list or of tasks")
    .option("--json", "one JSON object a line for each file", false)
    .option("--quiet", "say nothing but what is wrong", false)
    .action(async (files, { json, quiet }) => {
      const results = [];
      for (const file of files) results.push(await check(file, json || quiet));
      for (const result of results) {
        if (json) console.log(JSON.stringify(result));
        else if (!result.valid) console.error(result.message);
        else if (!quiet) printFolded([`${result.file}: ok`, ...result.notes].join("\n"));
      }
      const broken = results.filter(({ valid }) => !valid).length;
      if (broken === 0) return;
      throw new UserError(`${plural(broken, "file")} of ${files.length} cannot be used`, {
        exitCode: exitCodes.usage,
      });
    });
}

/** What became of a file; `message` has every fault, a line each with its place. */
type Checked =
  | { readonly file: string; readonly valid: true; readonly notes: readonly string[] }
  | { readonly file: string; readonly valid: false; readonly message: string };

async function check(file: string, isSilent: boolean): Promise<Checked> {
  const { doubtsOf } = await import("../core/train/mod.ts");
  try {
    if (await isTask(file) || await isCarriedTask(file)) {
      const { taskOpener } = await import("../core/eval/tasks/mod.ts");
      const { builtinTasks } = await import("./builtin_tasks.ts");
      await taskOpener(builtinTasks)([file]);
      return { file, valid: true, notes: [] };
    }
    const say = (line: string) => isSilent || console.error(line);
    const config = await loadNamedAny(file, say);
    return { file, valid: true, notes: doubtsOf(config).map((doubt) => `note: ${doubt}`) };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { where, message, hint } = error, place = where === undefined ? "" : `${where}: `;
    const help = hint === undefined ? "" : `\n  hint: ${hint}`;
    return { file, valid: false, message: `${place}${message}${help}` };
  }
}

/** Whether it is the name of a task that quern carries, and of nothing else. */
async function isCarriedTask(name: string): Promise<boolean> {
  return !await exists(name) && await builtinTask(name) !== undefined;
}

/** Whether a file is there and meant to be a task of `quern eval`. */
async function isTask(file: string): Promise<boolean> {
  const text = await Deno.readTextFile(file).catch(() => ""); // loading it says what is wrong
  const { isTaskFile } = await import("../core/eval/tasks/mod.ts");
  return isTaskFile(text);
}

/** A task's file that quern carries: its text, and as it is understood. */
async function builtinTask(name: string) {
  const { builtinTasks } = await import("./builtin_tasks.ts");
  const found = builtinTasks.find((task) => task.name === name || task.file === name);
  if (!found) return undefined;
  const { parseTask } = await import("../core/eval/tasks/mod.ts");
  return { text: found.text, config: parseTask(found) };
}
