/**
 * `quern completions`: what a shell needs to complete quern's command lines. The scripts and the protocol that
 * they speak with `quern complete -- WORDS` are @bomb.sh/tab's; nothing else knows of it.
 *
 * @module
 */
import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Complete, RootCommand } from "@bomb.sh/tab";
import { builtinConfigs } from "./builtin_configs.ts";
import { builtinTasks } from "./builtin_tasks.ts";

const help = `
Put the line of your shell where it reads it at each start:
  bash        source <(quern completions bash)           ~/.bashrc
  zsh         source <(quern completions zsh)            ~/.zshrc, after compinit
  fish        quern completions fish | source            ~/.config/fish/config.fish
  powershell  quern completions powershell | Out-String | Invoke-Expression    $PROFILE

quern must be found on the PATH by that name.

Examples:
  quern completions bash
  quern completions fish > ~/.config/fish/completions/quern.fish`;

/** The command that prints a script. */
export function completionsCommand(): CommandUnknownOpts {
  return new Command("completions")
    .summary("print a script by which a shell completes")
    .description("Prints the script by which a shell completes quern's commands and options.")
    .addArgument(
      new Argument("<shell>", "whose script").choices(
        ["bash", "zsh", "fish", "powershell"] as const,
      ),
    )
    .addHelpText("after", help)
    .action(async (shell) => {
      const { script } = await import("@bomb.sh/tab");
      const [text] = printedBy(() => script(shell, "quern", "quern"));
      // else a second reading of ~/.bashrc, or another program's script, is an error
      console.log(text.replaceAll(/^readonly (?=ShellComp)/gm, "").replace(bashWords, ownWords));
    });
}

/** What the bash script asks its package bash-completion for, which not everybody has. */
const bashWords = /^ *_get_comp_words_by_ref .*$/m;
const ownWords = (line: string) =>
  `\
    if declare -F _get_comp_words_by_ref >/dev/null; then
    ${line}
    else
        local before="\${COMP_LINE:0:COMP_POINT}"
        read -ra words <<< "$before"
        if [[ "$before" == *[[:space:]] ]]; then words+=(""); fi
        cword=$((\${#words[@]} - 1))
        cur="\${words[cword]}"
    fi`;

/** The command that the scripts ask, with the words of a line; the last one is to be completed. */
export function completeCommand(
  loadCommands: () => Promise<readonly CommandUnknownOpts[]>,
): CommandUnknownOpts {
  return new Command("complete")
    .description("Answers the scripts that quern completions prints.")
    .argument("[words...]")
    .action(async (words) => {
      const { RootCommand } = await import("@bomb.sh/tab");
      const root = new RootCommand();
      for (const command of await loadCommands()) describe(root, command, command.name());
      const word = words.at(-1) ?? "";
      const lines = printedBy(() => root.parse([...words]));
      // tab never lets a shell complete files; where it has nothing to offer, they are what is wanted
      const isOpen = lines.length === 1 && !/^-[^=]*$/.test(word);
      console.log((isOpen ? [":0"] : lines).join("\n"));
    });
}

/** Tells tab of a command and of those below it; `path` is all of its words. */
function describe(root: RootCommand, command: CommandUnknownOpts, path: string): void {
  const described = root.command(path, command.summary());
  for (const { long, description, required, optional, argChoices } of optionsOf(command)) {
    const name = long.slice(2);
    const choices = name === "tasks"
      ? ["list", ...builtinTasks.map(({ name }) => name)]
      : argChoices;
    if (required || optional) described.option(name, description, offering(choices));
    else described.option(name, description);
  }
  for (const argument of command.registeredArguments) {
    const choices = path === "config show"
      ? [...builtinConfigs, ...builtinTasks].map(({ name }) => name)
      : argument.argChoices;
    described.argument(argument.name(), offering(choices), argument.variadic);
  }
  for (const inner of command.commands) describe(root, inner, `${path} ${inner.name()}`);
}

function optionsOf(command: CommandUnknownOpts) {
  const visible = command.createHelp().visibleOptions(command);
  return visible.flatMap(({ long, ...option }) => long ? [{ ...option, long }] : []);
}

const offering = (values: readonly string[] = []) => (complete: Complete) =>
  values.forEach((value) => complete(value, ""));

/** What tab prints, which it cannot be asked to return. */
function printedBy(body: () => void): string[] {
  const lines: string[] = [], { log } = console;
  console.log = (line: string) => void lines.push(line);
  try {
    body();
  } finally {
    console.log = log;
  }
  return lines;
}
