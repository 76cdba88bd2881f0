import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
export function tokenizeCommand(): CommandUnknownOpts {
  return new Command("tokenize");
}
