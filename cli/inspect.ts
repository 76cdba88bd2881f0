/**
 * `quern inspect`: what is in a model, a file of tensors, token shards, a tokenizer or a config; and what a model
 * does inside while it reads.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import { noSuchConfig } from "./builtin_configs.ts";
import { parsePath, seedOption, wholeNumber } from "./options.ts";
import { fieldOption } from "./reading_options.ts";
import { printFolded } from "./ui/terminal.ts";
import { averageOption, checkpointOption } from "./weights_options.ts";

const help = `
What is given is recognised: a run, one of its checkpoints, a Hugging Face folder or a packed model; a file
of tensors (.safetensors, .pt, .pth, .gguf); a folder of token shards; a tokenizer.json; a config as YAML or by its name. Large files are read a part at
a time. Exit code 1 says that some tensor holds numbers that are not finite.

--routing lets a model read texts (a file, or the text itself), each alone, and shows what goes on inside: how
undecided routers are, by themselves (static) and on these texts (dynamic), what each neuron or layer chooses, how far
gates are open, how fast the states of delta rules forget, and how much each pass of a layer changes the stream.
Repeated, or with --category-field of a jsonl file, texts are told apart by category: NAME=FILE names one.
Entropies are in nats, of softmax without temperature and noise; the shares of "dynamic" are those mixed by.

Examples:
  quern inspect runs/shakespeare
  quern inspect runs/shakespeare --html model.html
  quern inspect runs/polyglu --routing "To be, or not to be"
  quern inspect runs/polyglu --routing code=main.py --routing prose=novel.txt --html routing.html
  quern inspect model.safetensors --each
  quern inspect data/shakespeare --samples 5
  quern inspect data/shakespeare/tokenizer.json --text "To be"
  quern inspect polyglu-0.6b --json`;

/** The command with its options. */
export function inspectCommand(): CommandUnknownOpts {
  return new Command("inspect")
    .summary("look into models, tensors, shards, tokenizers and configs")
    .description(
      "Shows what is in a model, a file of tensors, token shards, a tokenizer or a config.",
    )
    .argument("<path>", "what is looked at; a config also by its name")
    .addOption(checkpointOption())
    .addOption(averageOption())
    .addOption(
      new Option("--set <path=value>", "override a field of a config; repeatable")
        .argParser((value: string, before: string[] | undefined) => [...before ?? [], value]),
    )
    .optionsGroup("What is shown:")
    .option("--each", "every tensor by itself, not those of all layers together", false)
    .option("--text <text>", "how a tokenizer encodes this")
    .addOption(
      new Option("--samples <n>", "documents of token shards that are shown")
        .argParser(wholeNumber(0)).default(3),
    )
    .addOption(
      new Option("--max-tokens <n>", "tokens of shards that are counted; of a text that are read")
        .argParser(wholeNumber(1)),
    )
    .addOption(seedOption().default(0))
    .optionsGroup("Inside of a model:")
    .option(
      "--routing <text>",
      "let the model read a text or file, also NAME=FILE; repeatable",
      (text: string, before: readonly string[] | undefined) => [...before ?? [], text],
    )
    .option("--category-field <name>", "field of a jsonl file that tells texts apart", parsePath)
    .addOption(fieldOption())
    .addOption(
      new Option("--limit <n>", "texts of each category that are read").argParser(wholeNumber(1))
        .default(16),
    )
    .optionsGroup("Device and output:")
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--html <file>", "write it as a page, too", parsePath)
    .option("--json", "print everything as one JSON object", false)
    .option("--quiet", "show no progress", false)
    .addHelpText("after", help)
    .action(async (path, options, command) => {
      const view = await viewOf(
        path,
        options,
        (name) => command.getOptionValueSource(name as keyof typeof options) === "cli",
      );
      if (options.html !== undefined) {
        const { writeFileAtomic } = await import("../core/io/atomic.ts");
        await writeFileAtomic(options.html, await view.html());
        if (!options.quiet) console.error(`written: ${options.html}`);
      }
      if (options.json) console.log(JSON.stringify(view.json()));
      else printFolded(view.text());
      const { nonFinite = [] } = view;
      if (nonFinite.length > 0) {
        throw new UserError(
          `${plural(nonFinite.length, "tensor")} with numbers that are not finite: ${
            nonFinite.slice(0, 3).join(", ")
          }${nonFinite.length > 3 ? ", …" : ""}`,
          { where: path, exitCode: exitCodes.failed },
        );
      }
    });
}

/** What was found, in the forms that it may be shown in. */
export interface View {
  text(): string;
  json(): Record<string, unknown>;
  html(): Promise<string>;
  /** Names of tensors with numbers that are not finite. */
  readonly nonFinite?: readonly string[];
}

/** What the options come to. */
export interface InspectOptions {
  readonly checkpoint?: string | undefined;
  readonly average?: "ema" | "swa" | undefined;
  readonly set?: readonly string[] | undefined;
  readonly each: boolean;
  readonly text?: string | undefined;
  readonly samples: number;
  readonly maxTokens?: number | undefined;
  readonly seed: number;
  readonly routing?: readonly string[] | undefined;
  readonly categoryField?: string | undefined;
  readonly field?: readonly string[] | undefined;
  readonly limit: number;
  readonly device: "auto" | "cpu" | "webgpu";
  readonly blas: "auto" | "off";
  readonly threads?: number | undefined;
  readonly quiet: boolean;
}

/** What options are for; of the subjects of `recognise`, `routing` being a model that reads. */
const meant: Readonly<Record<string, { readonly of: readonly string[]; readonly is: string }>> = {
  checkpoint: { of: ["model", "routing"], is: "runs" },
  average: { of: ["model", "routing"], is: "runs" },
  set: { of: ["config"], is: "configs" },
  each: { of: ["model", "tensors"], is: "models and files of tensors" },
  text: { of: ["model", "tokenizer"], is: "models and tokenizers" },
  samples: { of: ["shards"], is: "token shards" },
  seed: { of: ["shards"], is: "token shards" },
  maxTokens: { of: ["shards", "routing"], is: "token shards and --routing" },
  routing: { of: ["routing"], is: "models" },
  categoryField: { of: ["routing"], is: "--routing" },
  field: { of: ["routing"], is: "--routing" },
  limit: { of: ["routing"], is: "--routing" },
};

/** Refuses options that would do nothing. */
function refuseUnmeant(view: string, given: (name: string) => boolean, where: string): void {
  for (const [name, { of, is }] of Object.entries(meant)) {
    if (!given(name) || of.includes(view)) continue;
    const flag = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new UserError(`--${flag} is for ${is}`, { where });
  }
}

async function viewOf(
  path: string,
  options: InspectOptions,
  given: (name: string) => boolean,
): Promise<View> {
  const { recognise } = await import("../core/inspect/recognise.ts");
  const subject = await recognise(path);
  const view = subject === "model" && options.routing ? "routing" : subject ?? "config";
  refuseUnmeant(view, given, path);
  switch (subject) {
    case "model": {
      if (options.routing) {
        return await (await import("./inspect_routing.ts")).viewRouting(path, options);
      }
      const { viewModel } = await import("./inspect_model.ts");
      return await viewModel(path, options);
    }
    case "tensors":
      return await (await import("./inspect_model.ts")).viewTensors(path, options);
    case "shards":
      return await (await import("./inspect_data.ts")).viewShards(path, options);
    case "tokenizer":
      return await (await import("./inspect_data.ts")).viewTokenizer(path, options);
    default: {
      const { builtinConfig } = await import("./builtin_configs.ts");
      if (subject === undefined && !builtinConfig(path)) {
        throw noSuchConfig(path, "there is nothing here, and quern carries no config of that name");
      }
      return await (await import("./inspect_model.ts")).viewConfig(path, options);
    }
  }
}
