/**
 * `quern fetch`: files of the Hugging Face hub, to the cache or to a folder.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Hub, Listing, RemoteFile } from "../core/hub/mod.ts";
import { formatBytes, plural } from "../core/io/words.ts";
import { type Conversation, FetchStory } from "./fetch_progress.ts";
import { hubFor } from "./hub.ts";
import { numberBetween, parsePath, wholeNumber } from "./options.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { printFolded } from "./ui/terminal.ts";

const help = `
<repo> is owner/name, hf:datasets/owner/name@revision/path, or an address as a browser shows it.
[files] and --include are names, folders or patterns in quotes; "*.json" means any folder's,
"data/*.json" that folder's.
Without --out files lie in the cache that Hugging Face's own tools use: HF_HUB_CACHE, HF_HOME/hub or
~/.cache/huggingface/hub. With it, they lie in that folder alone.
What is there already is not fetched again; a download that was cut off goes on where it stopped.
stdout gets the path: of the file, if it is one, else of the folder.

HF_ENDPOINT says where the hub is, HF_TOKEN (else HF_HOME/token) who asks, and with
HF_HUB_OFFLINE=1 the cache alone answers. Proxies: HTTPS_PROXY, NO_PROXY.

Examples:
  quern fetch Qwen/Qwen3-0.6B tokenizer.json
  quern fetch roneneldan/TinyStories --dataset --list
  quern fetch roneneldan/TinyStories --dataset --include "*.parquet" --out data/tinystories
  quern fetch hf:datasets/roneneldan/TinyStories@main/TinyStories-valid.txt`;

/** The command with its options. */
export function fetchCommand(): CommandUnknownOpts {
  return new Command("fetch")
    .summary("download data sets, tokenizers and models from the Hugging Face hub")
    .description(
      "Downloads files of a repository of the Hugging Face hub, checked by size and hash.",
    )
    .argument("<repo>", "owner/name on the hub")
    .argument("[files...]", "its files; all, unless --include says which")
    .option("--dataset", "it is a data set, not a model", false)
    .option("--revision <name>", 'branch, tag or commit (default: "main")', parsePath)
    .addOption(patternOption("--include <pattern>", "only files like this; repeatable"))
    .addOption(patternOption("--exclude <pattern>", "no files like this; repeatable"))
    .option("--out <folder>", "put the files there instead of in the cache", parsePath)
    .option("--overwrite", "replace other files that are there", false)
    .addOption(
      new Option("--list", "show the files with their sizes; download nothing")
        .conflicts(["out", "overwrite"]).default(false),
    )
    .addOption(
      new Option("--parallel <n>", "files at a time").argParser(wholeNumber(1)).default(4),
    )
    .addOption(
      new Option("--timeout <seconds>", "try again when nothing came for so long")
        .argParser(numberBetween(0.1, 3600)).default(30),
    )
    .option("--json", "one JSON object a line for everything that happens", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (name, files, options, command) => {
      if (options.overwrite && options.out === undefined) {
        return command.error("error: option '--overwrite' is for files in '--out <folder>'");
      }
      const { openRepo, chooseFiles, parseReference, readSettings, repoName } = await import(
        "../core/hub/mod.ts"
      );
      const settings = await readSettings((name) => Deno.env.get(name));
      const { endpoint, cache } = settings;
      const { repo, path } = parseReference(name, { ...options, endpoint });
      using interruption = listenForInterrupt(
        "interrupted",
        "what came is kept: the same command goes on from there",
      );
      const story = new FetchStory(options);
      const hub = hubFor(settings, {
        timeoutSeconds: options.timeout,
        signal: interruption.signal,
        onRetry: (retry) => story.retry(retry),
      });
      const { listing, fromCache } = await openRepo(hub, repo, cache);
      const include = [...path === undefined ? [] : [path], ...files, ...options.include ?? []];
      const exclude = options.exclude ?? [];
      const where = `${repoName(repo)}${fromCache === undefined ? "" : " in the cache"}`;
      const chosen = chooseFiles(listing.files, { include, exclude }, where);
      story.source(listing, { token: settings.token?.source, fromCache });
      if (options.list) return printListing(chosen, options, story);
      await fetchAndTell(hub, { listing, chosen, cache, options }, story);
    });
}

function patternOption<const Flags extends string>(flags: Flags, description: string) {
  return new Option(flags, description)
    .argParser((pattern: string, before: readonly string[] | undefined) => [
      ...before ?? [],
      parsePath(pattern),
    ]);
}

interface Wanted {
  readonly listing: Listing;
  readonly chosen: readonly RemoteFile[];
  readonly cache: string;
  readonly options: Conversation & {
    readonly out?: string | undefined;
    readonly overwrite: boolean;
    readonly parallel: number;
  };
}

async function fetchAndTell(hub: Hub, wanted: Wanted, story: FetchStory): Promise<void> {
  const { listing, chosen, cache, options: { out, overwrite, parallel, ...options } } = wanted;
  const { fetchFiles } = await import("../core/hub/mod.ts");
  try {
    const ifExists = overwrite ? "replace" : "fail";
    const job = { listing, files: chosen, cache, out, ifExists, parallel } as const;
    const result = await fetchFiles(hub, job, (event) => story.tell(event));
    story.end(result);
    const [only] = result.files;
    if (!options.json && !options.quiet) {
      const { nextSteps } = await import("./fetch_next.ts");
      console.log(result.files.length === 1 ? only.localPath : result.folder);
      for (const line of nextSteps(result, listing.repo)) story.note(line);
    }
  } finally {
    story.close();
  }
}

function printListing(files: readonly RemoteFile[], { json }: Conversation, story: FetchStory) {
  if (json) {
    for (const { path, size, hash } of files) {
      const name = hash.algorithm === "sha256" ? "sha256" : "git_sha1";
      console.log(JSON.stringify({ path, size, [name]: hash.hex }));
    }
    return;
  }
  const sizes = files.map(({ size }) => formatBytes(size));
  const width = Math.max(...sizes.map(({ length }) => length));
  printFolded(files.map(({ path }, i) => `${sizes[i].padStart(width)}  ${path}`).join("\n"));
  const total = files.reduce((sum, { size }) => sum + size, 0);
  story.note(`${plural(files.length, "file")}, ${formatBytes(total)}`);
}
