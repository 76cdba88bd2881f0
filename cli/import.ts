/**
 * `quern import`: a published checkpoint to a run folder.
 *
 * @module
 */
import { join } from "node:path";
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Imported, Origin } from "../core/import/mod.ts";
import { UserError } from "../core/io/errors.ts";
import { plural, shellWord } from "../core/io/words.ts";
import { loadNamed } from "./named_config.ts";
import { parsePath, wholeNumber } from "./options.ts";
import { formatCount } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";
import { version } from "./version.ts";

const help = `
A folder in Hugging Face's layout says itself what it is: Llama, Mistral, Qwen2, Qwen3, or what quern export
wrote. So does a GGUF file of Llama, Qwen2 or Qwen3 (f32, f16, bf16, q8_0). For others --config and --tokenizer say it.
Every parameter of the config's model must be in the file in its size, and nothing else: what is missing, too many
or misshapen is named. F16, BF16 and F64 become f32. Of tied weights a file may hold one or both names.
PyTorch files (.pt, .pth, .bin) hold dicts of tensors: the model's is taken, others are named. Nothing in a file is run.
Weights, tokenizer and config become a run that quern generate reads, and quern pretrain --from begins with.
Schedules, such as a router's temperature, stand where --step says.

Examples:
  quern import exported/shakespeare --out runs/back
  quern import model.safetensors --config polyglu-0.6b --tokenizer tokenizer.json --out runs/polyglu
  quern import model.gguf --out runs/llama
  quern import checkpoint/ --config neollm-110m --tokenizer tokenizer.json --dry-run
  quern pretrain my.yaml --from runs/polyglu --out runs/mine`;

/** Names of `core/import`'s tables. Held against them by a test: the help must not load them. */
export const formats = ["llama", "polyglu", "veronica", "neollm", "recycled-core"] as const;

/** The command with its options. */
export function importCommand(): CommandUnknownOpts {
  return new Command("import")
    .summary("make a run of a published checkpoint")
    .description(
      "Makes a run of a published checkpoint: a Hugging Face folder of a plain decoder or of quern's own, or weights " +
        "of PolyGLU, Veronica, NeoLLM or Recycled-core.",
    )
    .argument(
      "<checkpoint>",
      "safetensors, PyTorch or GGUF file, an index of several, or a folder",
    )
    .option(
      "--config <config>",
      "what the model is: YAML file, or a name of quern config list (default: the folder's config.json)",
      parsePath,
    )
    .option(
      "--tokenizer <name>",
      "byte, or the path of a tokenizer.json (default: the folder's)",
      parsePath,
    )
    .option("--out <folder>", "run folder", parsePath)
    .addOption(
      new Option("--format <name>", "whose names the tensors have (default: whose all are)")
        .choices(formats),
    )
    .addOption(
      new Option("--step <n>", "updates that it was trained for (default: the config's steps)")
        .argParser(wholeNumber(0)),
    )
    .addOption(
      new Option("--set <path=value>", "override a field of the config; repeatable")
        .argParser((value: string, before: string[] | undefined) => [...before ?? [], value]),
    )
    .option("--dry-run", "list what becomes of each tensor, and write nothing", false)
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (from, { out, dryRun, json, quiet, tokenizer: name, ...options }) => {
      if (out === undefined && !dryRun) {
        throw new UserError("no --out is given", { hint: "say where the run goes, or --dry-run" });
      }
      const session = { version, command: ["quern", ...Deno.args] };
      const target = dryRun ? undefined : out,
        say = (line: string) => json || quiet || console.error(line);
      if (options.config === undefined) {
        const { importFolder, isGgufFile } = await import("../core/open/mod.ts");
        const mayReplace = await isGgufFile(from);
        refuseOthers({ ...options, ...!mayReplace && { tokenizer: name } });
        const tokenizer = name === undefined ? undefined : await tokenizerNamed(name);
        const imported = await importFolder({ from, tokenizer, out: target, session });
        if (json) console.log(JSON.stringify(await recordOf(imported, target)));
        else if (!quiet) await print(imported, target, imported.step);
        if (target !== undefined && imported.config === "a start") {
          say(
            `${
              join(target, "config.yaml")
            }: the model is as imported; data and training are only a start`,
          );
        }
        return;
      }
      const config = await loadNamed(options.config, options.set ?? [], say);
      const { importCheckpoint } = await import("../core/import/mod.ts");
      const imported = await importCheckpoint({
        from,
        config,
        tokenizer: await tokenizerNamed(name ?? from),
        out: target,
        format: options.format,
        step: options.step,
        session,
      });
      if (json) console.log(JSON.stringify(await recordOf(imported, target)));
      else if (!quiet) await print(imported, target, options.step);
    });
}

async function tokenizerNamed(name: string) {
  const { loadTokenizer } = await import("../core/text/load.ts");
  const { byteTokenizer } = await import("../core/text/tokenizer.ts");
  return name === "byte" ? byteTokenizer() : await loadTokenizer(name);
}

/** What a folder says itself cannot be said otherwise. */
function refuseOthers(options: Readonly<Record<string, unknown>>): void {
  const [given] = ["tokenizer", "format", "step", "set"].filter((name) =>
    options[name] !== undefined
  );
  if (given === undefined) return;
  throw new UserError(
    `--${given} needs --config: without it a folder's config.json says what the model is`,
  );
}

async function print(imported: Imported, out: string | undefined, step: number | undefined) {
  const { mapping: { table, origins, dropped }, params, files, leftOut } = imported;
  if (out === undefined) {
    for (const origin of origins) {
      printFolded(await lineOf(origin, imported));
    }
  }
  const lines = [
    `${out ?? "would be imported"}: ${plural(origins.length, "tensor")}, ` +
    `${formatCount(params)} parameters, as ${table.name}` +
    (files.length > 1 ? `, from ${plural(files.length, "file")}` : ""),
    ...[...dropped, ...leftOut.slice(0, 12)].map(({ name, why }) => `  dropped ${name}: ${why}`),
    ...leftOut.length > 12 ? [`  and ${leftOut.length - 12} more that are no weights`] : [],
    `  schedules stand at step ${formatCount(imported.step)}` +
    (step === undefined ? " = the config's length" : ""),
  ];
  printFolded(lines.join("\n"));
  if (out !== undefined) console.error(`try it: quern generate ${shellWord(out)}`);
}

async function lineOf({ param, theirs, steps }: Origin, { tensors }: Imported): Promise<string> {
  const { describeStep } = await import("../core/import/mod.ts");
  const how = steps.length === 0 ? "" : ` (${steps.map(describeStep).join(", ")})`;
  return `${param.path} [${param.shape}] = ${theirs} [${tensors.get(theirs)!.shape}]${how}`;
}

/** What `--json` prints; the names are stable. */
async function recordOf(imported: Imported, out: string | undefined) {
  const { describeStep } = await import("../core/import/mod.ts");
  const { mapping: { table, origins, dropped }, tensors, params, files, step, leftOut } = imported;
  return {
    ...(out !== undefined && { out }),
    format: table.name,
    files,
    step,
    tensors: origins.length,
    parameters: params,
    dropped: [...dropped, ...leftOut],
    mapping: origins.map(({ param: { path, shape }, theirs, steps }) => ({
      path,
      shape,
      from: theirs,
      from_shape: tensors.get(theirs)!.shape,
      from_dtype: tensors.get(theirs)!.dtype,
      steps: steps.map(describeStep),
    })),
  };
}
