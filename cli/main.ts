/**
 * The entry: finds the command, and turns what it throws into one clear message and an exit code.
 *
 * Only the command that is asked for is loaded, so `quern --help` needs nothing but this file.
 *
 * @module
 */
import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { exitCodes } from "../core/io/errors.ts";
import { explainError } from "./ui/errors.ts";
import { version } from "./version.ts";

/** A command's name and its line in `quern --help`; `load` brings its file. */
interface CommandEntry {
  name: string;
  summary: string;
  load: () => Promise<CommandUnknownOpts>;
}

const commands: readonly CommandEntry[] = [
  {
    name: "tokenize",
    summary: "turn text or jsonl files into token shards",
    load: async () => (await import("./tokenize.ts")).tokenizeCommand(),
  },
];

const examples = `
Examples:
  quern tokenize corpus.txt --out data/corpus --tokenizer character
  quern help tokenize`;

/** The program with one command loaded; the others stand for their line in the help. */
async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command("quern")
    .description("Trains small language models from text, and generates with them.")
    .version(version)
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError("(add --help for usage)")
    .addHelpText("after", examples);
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const wanted = first === "help" ? second : first;
  for (const { name, summary, load } of commands) {
    const command = name === wanted ? await load() : new Command(name).summary(summary);
    program.addCommand(command.copyInheritedSettings(program));
  }
  return program;
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const program = await buildProgram(args);
    if (args.length === 0) program.help();
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

Deno.exit(await main(Deno.args));
