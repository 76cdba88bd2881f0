/**
 * `quern watch`: the report of runs in a browser, while they train.
 *
 * @module
 */
import {
  Command,
  type CommandUnknownOpts,
  InvalidArgumentError,
} from "@commander-js/extra-typings";
import { plural } from "../core/io/words.ts";
import { wholeNumber } from "./options.ts";
import { byOption } from "./report.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";

const help = `
The page follows the runs: their beginning, should they not be there yet, their end, and when they go
on. Only browsers on this machine are answered; for another one's, use ssh -L. Ctrl-C ends it.

Examples:
  quern watch runs/shakespeare-char
  quern watch runs/a runs/b --port 8080`;

/** The command with its options. */
export function watchCommand(): CommandUnknownOpts {
  return new Command("watch")
    .summary("show a run's report in a browser while it trains")
    .description("Serves the report of a run, or of several, on this machine, and keeps it new.")
    .argument("<runs...>", "run folders, which need not be there yet")
    .option("--port <n>", "where to listen (default: a free port)", parsePort)
    .addOption(byOption())
    .option("--json", "print the address as a JSON object", false)
    .option("--quiet", "say nothing but the address", false)
    .addHelpText("after", help)
    .action(async (runs, { port, by, json, quiet }) => {
      const { serveReports } = await import("../core/report/live.ts");
      using interruption = listenForInterrupt("interrupted");
      await using server = serveReports(runs, { port: port ?? 0, by });
      console.log(json ? JSON.stringify({ url: server.url }) : server.url);
      if (!quiet && !json) console.error(`shows ${plural(runs.length, "run")}; Ctrl-C ends it`);
      const { signal } = interruption;
      if (signal.aborted) return;
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    });
}

function parsePort(text: string): number {
  const port = wholeNumber(0)(text);
  if (port > 65_535) throw new InvalidArgumentError("Not a port.");
  return port;
}
