/**
 * `quern export`: a trained model in files that other programs read.
 *
 * @module
 */
import { basename } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import { plural, shellWord } from "../core/io/words.ts";
import type { OpenedModel } from "../core/open/mod.ts";
import { blasOption, deviceOption, threadsOption } from "./device_options.ts";
import {
  addArtifactOptions,
  type ArtifactChoice,
  artifactExamples,
  artifactHelp,
  givenArtifactOption,
  writeArtifact,
} from "./export_artifact.ts";
import { parseBytes, parsePath } from "./options.ts";
import { formatCount } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";
import { version } from "./version.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";

const help = `
hf: a folder in Hugging Face's layout: config.json, safetensors, tokenizer.json, generation_config.json, and a
README.md with the run's figures. Decoders as plain as Llama, Mistral, Qwen2 or Qwen3 are exported as such; all others
bring a PyTorch module along (modeling_quern.py), with which they generate and train on elsewhere: with transformers
(trust_remote_code), or with torch alone. quern generate and quern import read the folder, too.

gguf: a file for llama.cpp, of models as plain as Llama, Qwen2 or Qwen3 with a byte-level tokenizer. q8_0 is for
matrices whose rows are whole blocks of 32; others stay f16, vectors f32.

${artifactHelp}

Examples:
  quern export runs/shakespeare exported/shakespeare
  quern export runs/neollm exported/neollm --dtype bf16 --average ema
  quern export runs/llama exported/llama --module --shard-size 2GB
  quern export runs/llama llama.gguf --to gguf --dtype q8_0
${artifactExamples}`;

/** What a format stores weights as, its own choice first. Held against core/export by a test: the help must not load it. */
export const exportDtypeNames = {
  hf: ["f32", "bf16", "f16"],
  gguf: ["f16", "q8_0", "bf16", "f32"],
  artifact: [],
} as const;
type Format = keyof typeof exportDtypeNames;

interface Settings {
  readonly dtype: string | undefined;
  readonly average: string | undefined;
  readonly shardSize: number | undefined;
  readonly module: boolean;
  readonly artifact: ArtifactChoice;
}

/** What a format wrote, for people and for scripts. */
export interface Result {
  readonly lines: readonly string[];
  readonly record: object;
  /** A command to go on with. */
  readonly next: string;
}

const writers: Record<
  Format,
  (opened: OpenedModel, out: string, settings: Settings) => Promise<Result>
> = {
  hf: writeHuggingface,
  gguf: writeGguf,
  artifact: (opened, out, { artifact }) => writeArtifact(opened, out, artifact),
};

/** The command with its options. */
export function exportCommand(): CommandUnknownOpts {
  const formats = Object.keys(exportDtypeNames) as [Format];
  const command = new Command("export")
    .summary("write a trained model for other programs")
    .description("Writes a trained model in files that other programs read.")
    .argument("<run>", modelArgument)
    .argument("<out>", "folder, or gguf's file")
    .addOption(
      new Option("--to <format>", "what it is written as").choices(formats)
        .default("hf" as Format),
    )
    .addOption(
      new Option("--dtype <type>", "what weights are stored as (default: hf f32, gguf f16)")
        .choices([...new Set(Object.values(exportDtypeNames).flat())]),
    )
    .addOption(checkpointOption())
    .addOption(averageOption())
    .addOption(
      new Option("--shard-size <bytes>", "hf: files of weights hold at most so much (default: 5GB)")
        .argParser(parseBytes),
    )
    .option("--module", "hf: the PyTorch module even where a standard class would do", false);
  addArtifactOptions(command);
  return command.optionsGroup("Device and output:")
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (run, out, { to, checkpoint, json, quiet, ...rest }) => {
      const { dtype, average, shardSize, module } = rest;
      // more options in one command than its types can follow
      const artifact = command.opts() as unknown as ArtifactChoice;
      const settings = { dtype, average, shardSize, module, artifact };
      requireFormat(to, settings, givenArtifactOption(command));
      const { openAny } = await import("../core/open/mod.ts");
      using opened = await openAny(run, { average, checkpoint });
      const { lines, record, next } = await writers[to](opened, parsePath(out), settings);
      if (json) console.log(JSON.stringify({ out, format: to, step: opened.step, ...record }));
      else if (!quiet) {
        printFolded(lines.join("\n"));
        console.error(`try it: ${next}`);
      }
    });
}

/** An option that a format has not would do nothing. */
function requireFormat(
  to: Format,
  { dtype, shardSize, module }: Settings,
  ofArtifact: string | undefined,
): void {
  const known: readonly string[] = exportDtypeNames[to];
  if (dtype !== undefined && !known.includes(dtype)) {
    throw new UserError(`${to} has no --dtype ${dtype}`, {
      hint: known.length > 0 ? `it has ${known.join(", ")}` : "leave it out",
    });
  }
  if (ofArtifact !== undefined && to !== "artifact") {
    throw new UserError(`${ofArtifact} is for --to artifact`, { hint: "leave it out" });
  }
  if (to === "hf") return;
  const given = shardSize !== undefined ? "--shard-size" : module ? "--module" : undefined;
  if (given) throw new UserError(`${given} is for --to hf`, { hint: "leave it out" });
}

async function writeHuggingface(
  opened: OpenedModel,
  out: string,
  { dtype = "f32", average, shardSize = 5e9, module }: Settings,
): Promise<Result> {
  const { exportHuggingface, figuresOf } = await import("../core/export/mod.ts");
  const exported = await exportHuggingface({
    opened,
    out,
    dtype: dtype as typeof exportDtypeNames.hf[number],
    shardBytes: shardSize,
    form: module ? "module" : "standard",
    version,
    figures: await figuresOf(opened, average),
  });
  const { architecture, why, tensors, params, files } = exported;
  const lines = [
    `${out}: ${architecture}, ${counted(tensors, params)}, ${plural(files.length, "file")}`,
  ];
  if (why !== undefined && !module) lines.push(`  with its own PyTorch module: ${why}`);
  return {
    lines,
    record: { dtype, ...exported },
    next: `quern generate ${shellWord(out)}`,
  };
}

async function writeGguf(
  opened: OpenedModel,
  out: string,
  { dtype = "f16" }: Settings,
): Promise<Result> {
  const { exportGguf } = await import("../core/export/mod.ts");
  const type = dtype as typeof exportDtypeNames.gguf[number];
  const exported = await exportGguf({ opened, out, type, name: basename(opened.folder) });
  const { architecture, tensors, params, wide } = exported;
  const lines = [`${out}: ${architecture}, ${counted(tensors, params)}, ${dtype}`];
  if (wide.length > 0) {
    lines.push(
      `  f16, as their rows are no whole blocks: ${wide.slice(0, 4).join(", ")}` +
        (wide.length > 4 ? ` and ${wide.length - 4} more` : ""),
    );
  }
  return {
    lines,
    record: { dtype, ...exported },
    next: `llama-cli -m ${shellWord(out)} -no-cnv -p "Once"`,
  };
}

const counted = (tensors: number, params: number) =>
  `${plural(tensors, "tensor")}, ${formatCount(params)} parameters`;
