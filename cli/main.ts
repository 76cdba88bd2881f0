/**
 * The entry: finds the command, and turns what it throws into one clear message and an exit code.
 *
 * Only the command that is asked for is loaded, so `quern --help` needs nothing but this file.
 *
 * @module
 */
import process from "node:process";
import {
  Command,
  CommanderError,
  type CommandUnknownOpts,
  Help,
  type Option,
} from "@commander-js/extra-typings";
import { exitCodes, nearestName, UserError } from "../core/io/errors.ts";
import { refuseSwallowedFlags } from "./options.ts";
import { explainError } from "./ui/errors.ts";
import { columnsOf, foldProse } from "./ui/terminal.ts";
import { version } from "./version.ts";

/** A command's name and its line in `quern --help`, unless scripts alone use it; `load` brings its file. */
interface CommandEntry {
  name: string;
  summary: string;
  hidden?: true;
  load: () => Promise<CommandUnknownOpts>;
}

const commands: readonly CommandEntry[] = [
  {
    name: "fetch",
    summary: "download data sets, tokenizers and models from the Hugging Face hub",
    load: async () => (await import("./fetch.ts")).fetchCommand(),
  },
  {
    name: "tokenize",
    summary: "turn text, jsonl or parquet into token shards",
    load: async () => (await import("./tokenize.ts")).tokenizeCommand(),
  },
  {
    name: "pretrain",
    summary: "train a model from a config",
    load: async () => (await import("./pretrain.ts")).pretrainCommand(),
  },
  {
    name: "sft",
    summary: "fine-tune a model on conversations",
    load: async () => (await import("./sft.ts")).sftCommand(),
  },
  {
    name: "import",
    summary: "make a run of a published checkpoint",
    load: async () => (await import("./import.ts")).importCommand(),
  },
  {
    name: "export",
    summary: "write a trained model for other programs",
    load: async () => (await import("./export.ts")).exportCommand(),
  },
  {
    name: "average",
    summary: "make one model of several: the mean of their weights",
    load: async () => (await import("./average.ts")).averageCommand(),
  },
  {
    name: "grow",
    summary: "add a branch to a trained model's polymorphic mlps",
    load: async () => (await import("./grow.ts")).growCommand(),
  },
  {
    name: "generate",
    summary: "continue a prompt with a trained model",
    load: async () => (await import("./generate.ts")).generateCommand(),
  },
  {
    name: "eval",
    summary: "measure a model",
    load: async () => (await import("./eval.ts")).evalCommand(),
  },
  {
    name: "chat",
    summary: "talk with a model that was tuned on conversations",
    load: async () => (await import("./chat.ts")).chatCommand(),
  },
  {
    name: "report",
    summary: "make a page of a run, or of several side by side",
    load: async () => (await import("./report.ts")).reportCommand(),
  },
  {
    name: "watch",
    summary: "show a run's report in a browser while it trains",
    load: async () => (await import("./watch.ts")).watchCommand(),
  },
  {
    name: "inspect",
    summary: "look into models, tensors, shards, tokenizers and configs",
    load: async () => (await import("./inspect.ts")).inspectCommand(),
  },
  {
    name: "config",
    summary: "list, show and check configs",
    load: async () => (await import("./config.ts")).configCommand(),
  },
  {
    name: "doctor",
    summary: "look at the machine, and test the device",
    load: async () => (await import("./doctor.ts")).doctorCommand(),
  },
  {
    name: "quickstart",
    summary: "all of it once, in about a minute",
    load: async () => (await import("./quickstart.ts")).quickstartCommand(),
  },
  {
    name: "completions",
    summary: "print a script by which a shell completes",
    load: async () => (await import("./completions.ts")).completionsCommand(),
  },
  {
    name: "complete",
    summary: "answer such a script",
    hidden: true,
    load: async () => (await import("./completions.ts")).completeCommand(loadVisible),
  },
];

/** All commands that the help lists. */
function loadVisible(): Promise<CommandUnknownOpts[]> {
  return Promise.all(commands.filter(({ hidden }) => !hidden).map(({ load }) => load()));
}

const examples = `
Examples:
  quern quickstart
  quern tokenize corpus.txt --out data/corpus --tokenizer character
  quern pretrain shakespeare-char
  quern generate runs/shakespeare-char "ROMEO:"
  quern help pretrain`;

/** The program with one command loaded; the others stand for their line in the help. */
async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command("quern")
    .description("Trains small language models from text, and generates with them.")
    .version(version)
    .enablePositionalOptions() // an option belongs to the command that it follows
    .exitOverride()
    .configureHelp({ minWidthToWrap: 20, optionDescription: describeOption })
    .configureOutput({
      getOutHelpWidth: helpWidth,
      writeOut: (text) => process.stdout.write(foldProse(text, helpWidth())),
    })
    .showSuggestionAfterError()
    .showHelpAfterError("(add --help for usage)")
    .addHelpText("after", examples);
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const wanted = first === "help" ? second : first;
  if (first === "help" && second !== undefined) requireCommand(second);
  for (const { name, summary, load, hidden = false } of commands) {
    const command = name === wanted ? await load() : new Command(name).summary(summary);
    program.addCommand(command.copyInheritedSettings(program), { hidden });
  }
  return program;
}

const helpWidth = () => columnsOf(process.stdout) ?? 80;

/** As commander has it, without the default that everybody expects: not given. */
function describeOption(option: Option): string {
  return new Help().optionDescription(option).replace(/ \(default: (false|\[\])\)$/, "");
}

/** commander's own help shows the program's where the command is unknown. */
function requireCommand(name: string): void {
  const names = [...commands.filter(({ hidden }) => !hidden).map(({ name }) => name), "help"];
  if (names.includes(name)) return;
  const near = nearestName(name, names);
  throw new UserError(`unknown command '${name}'`, {
    hint: near === undefined ? `known: ${names.join(", ")}` : `did you mean ${near}?`,
  });
}

async function main(args: readonly string[]): Promise<number> {
  for (const name of ["QUERN_SEED", "QUERN_DEVICE"]) {
    if (Deno.env.get(name) === "") Deno.env.delete(name); // as good as unset
  }
  try {
    const program = await buildProgram(args);
    if (args.length === 0) program.help();
    for (const command of program.commands) refuseSwallowedFlags(command, args);
    await program.parseAsync(args, { from: "user" });
    return exitCodes.done;
  } catch (error) {
    // commander has printed its message already; help and version end by throwing, too
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    }
    if (error instanceof Deno.errors.BrokenPipe) return exitCodes.done; // as in `quern … | head`
    const { text, exitCode } = explainError(error);
    console.error(text);
    return exitCode;
  }
}

// In a bundle of one file this is also the program of all workers, which must not run a command of
// their own; each module knows its workers by their name.
if ("DedicatedWorkerGlobalScope" in globalThis) {
  await import("../core/device/cpu/pool.ts");
  await import("../core/data/threads.ts");
} else Deno.exit(await main(Deno.args));
