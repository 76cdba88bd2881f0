/**
 * `quern export`: a trained model in files that other programs read.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Exported } from "../core/export/mod.ts";
import { plural, shellWord } from "../core/io/words.ts";
import { parseBytes, parsePath } from "./options.ts";
import { formatCount } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";
import { version } from "./version.ts";

const help = `
hf: a folder in Hugging Face's layout: config.json, safetensors, tokenizer.json, generation_config.json, and a
README.md with the run's figures. Decoders as plain as Llama, Mistral, Qwen2 or Qwen3 are exported as such; all others
bring a PyTorch module along (modeling_quern.py), with which they generate and train on elsewhere: with transformers
(trust_remote_code), or with torch alone. quern generate and quern import read the folder, too.

Examples:
  quern export runs/shakespeare exported/shakespeare
  quern export runs/neollm exported/neollm --dtype bf16 --average ema
  quern export runs/llama exported/llama --module --shard-size 2GB`;

/** What weights are written as. Held against `core/export` by a test: the help must not load it. */
export const exportDtypeNames = ["f32", "bf16", "f16"] as const;

/** The command with its options. */
export function exportCommand(): CommandUnknownOpts {
  return new Command("export")
    .summary("write a trained model for other programs")
    .description("Writes a trained model in files that other programs read.")
    .argument("<run>", "run folder, one of its checkpoint folders, or a Hugging Face folder")
    .argument("<out>", "what is written")
    .addOption(
      new Option("--to <format>", "what it is written as").choices(["hf"] as const).default(
        "hf" as const,
      ),
    )
    .addOption(
      new Option("--dtype <type>", "what weights are stored as").choices(exportDtypeNames)
        .default("f32" as const),
    )
    .addOption(
      new Option("--average <kind>", "an average of the weights instead of them")
        .choices(["ema", "swa"] as const),
    )
    .option(
      "--checkpoint <name>",
      "of a run: latest, best, or step-N (default: latest)",
      parsePath,
    )
    .addOption(
      new Option("--shard-size <bytes>", "files of weights hold at most so much")
        .argParser(parseBytes).default(5e9, "5GB"),
    )
    .option("--module", "the PyTorch module even where a standard class would do", false)
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (run, out, { dtype, average, checkpoint, shardSize, json, quiet, ...rest }) => {
      const { openAny } = await import("../core/open/mod.ts");
      const { exportHuggingface, figuresOf } = await import("../core/export/mod.ts");
      using opened = await openAny(run, { average, checkpoint });
      const exported = await exportHuggingface({
        opened,
        out: parsePath(out),
        dtype,
        shardBytes: shardSize,
        form: rest.module ? "module" : "standard",
        version,
        figures: await figuresOf(opened, average),
      });
      if (json) console.log(JSON.stringify({ out, step: opened.step, dtype, ...exported }));
      else if (!quiet) print(out, exported, rest.module);
    });
}

function print(
  out: string,
  { architecture, why, tensors, params, files }: Exported,
  isAsked: boolean,
) {
  const lines = [
    `${out}: ${architecture}, ${plural(tensors, "tensor")}, ${formatCount(params)} parameters, ` +
    plural(files.length, "file"),
  ];
  if (why !== undefined && !isAsked) lines.push(`  with its own PyTorch module: ${why}`);
  printFolded(lines.join("\n"));
  console.error(`try it: quern generate ${shellWord(out)}`);
}
