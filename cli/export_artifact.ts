/**
 * `quern export --to artifact`: a model in few bytes.
 *
 * @module
 */
import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import { plural, shellWord } from "../core/io/words.ts";
import type { OpenedModel } from "../core/open/mod.ts";
import type { PackOptions } from "../core/quant/export.ts";
import type { ArtifactReport, PartReport } from "../core/quant/write.ts";
import { type DeviceChoice, openChosenDevice } from "./device_options.ts";
import { parseBytes, parsePath, wholeNumber } from "./options.ts";
import { formatBytes, formatCount } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";
import type { Result } from "./export.ts";

export const artifactHelp = `\
artifact: a folder with model.quern, in which matrices are levels of 5, 6 or 8 bits with a scale a row, and the
tokenizer. quern generate and eval read it as they read a run. --budget chooses the bits of each tensor so that
model.quern fits, with the code that --count-code names; --measure says what the levels cost, part by part, and
lets a budget go where it counts. --published packs as RecycledCore's own script does.`;

export const artifactExamples = `\
  quern export runs/recycled small --to artifact --budget 16MB --average swa --measure fineweb
  quern export runs/recycled as-published --to artifact --published --count-code train_gpt.py
  quern export runs/shakespeare tiny --to artifact --matrices int5 --measure data/shakespeare`;

const matrixForms = ["fit", "int5", "int6", "int8", "f16"] as const;

/** The options of an artifact, as `ArtifactChoice` has them: more of them in one command than its types can follow. */
export function addArtifactOptions(command: CommandUnknownOpts): void {
  command.optionsGroup("Artifact:");
  for (const option of artifactOptions()) command.addOption(option);
}

function artifactOptions(): Option[] {
  const once = (file: string, before: string[]) => [...before, parsePath(file)];
  return [
    new Option("--budget <bytes>", "what model.quern may take, as 16MB").argParser(parseBytes),
    new Option("--matrices <form>", "their levels (default: fit with a budget, else int6)")
      .choices(matrixForms),
    new Option("--search <scope>", "where one percentile is chosen for")
      .choices(["row", "matrix"]).default("row"),
    new Option("--floor <least>", "the least scale of a row; reference is 1/15 for int5")
      .choices(["tiny", "reference"]).default("tiny"),
    new Option("--small <n>", "tensors of no more numbers stay f16").argParser(wholeNumber(0))
      .default(4096),
    new Option("--packing <way>", "levels as bytes compress better than packed bits")
      .choices(["bytes", "bits"]).default("bytes"),
    new Option("--compression <name>", "smallest tries both")
      .choices(["smallest", "zstd", "lzma"]).default("smallest"),
    new Option("--published", "all of these as RecycledCore's script has them").default(false),
    new Option("--count-code <file>", "its bytes count against the budget; repeatable")
      .argParser(once).default([], "none"),
    new Option("--measure <path>", "bits per byte before and after, on text or shards")
      .argParser(parsePath),
  ];
}

/** The first of them that a command line has. */
export function givenArtifactOption(command: CommandUnknownOpts): string | undefined {
  return artifactOptions().find((option) =>
    command.getOptionValueSource(option.attributeName()) === "cli"
  )?.long;
}

/** What the options come to. */
export interface ArtifactChoice extends DeviceChoice {
  readonly budget?: number | undefined;
  readonly matrices?: typeof matrixForms[number] | undefined;
  readonly search: "row" | "matrix";
  readonly floor: "tiny" | "reference";
  readonly small: number;
  readonly packing: "bytes" | "bits";
  readonly compression: "smallest" | "zstd" | "lzma";
  readonly published: boolean;
  readonly countCode: readonly string[];
  readonly measure?: string | undefined;
  readonly average?: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Packs and measures. */
export async function writeArtifact(
  opened: OpenedModel,
  out: string,
  choice: ArtifactChoice,
): Promise<Result> {
  const { exportArtifact } = await import("../core/quant/write.ts");
  const { measure, budget, average, json, quiet } = choice;
  const options = packOptions(choice, await sizesOf(choice.countCode));
  await using device = measure === undefined ? undefined : await openChosenDevice(choice);
  const progress = progressLine(quiet || json ? "quiet" : "normal");
  const report = await exportArtifact({
    opened,
    out,
    average,
    options: { ...options, budget },
    measure: device && {
      device,
      bits: { path: measure!, counting: "once" },
    },
    onPhase: (phase) => progress.update(() => phase),
  }).finally(() => progress.end());
  return { lines: describe(report), record: report, next: `quern generate ${shellWord(out)}` };
}

function packOptions(choice: ArtifactChoice, besides: number): PackOptions {
  const { search, floor, small, packing, compression, published, budget } = choice;
  if (published) {
    return {
      matrices: "int5",
      search: "matrix",
      floor: "reference",
      small: 65_536,
      packing: "bits",
      compressions: ["lzma"],
      besides,
    };
  }
  const { matrices = budget === undefined ? "int6" : "fit" } = choice;
  if (matrices === "fit" && budget === undefined) {
    throw new UserError("--matrices fit needs a --budget", { hint: "for example --budget 16MB" });
  }
  const compressions = compression === "smallest" ? ["zstd", "lzma"] as const : [compression];
  return { matrices, search, floor, small, packing, compressions, besides };
}

async function sizesOf(files: readonly string[]): Promise<number> {
  let sum = 0;
  for (const file of files) sum += (await Deno.stat(file)).size;
  return sum;
}

function describe(report: ArtifactReport): string[] {
  const { out, bytes, headerBytes, besides, budget, compression, tried, before, after } = report;
  const all = bytes + besides, isMeasured = before !== undefined;
  const others = Object.entries(tried).filter(([name]) => name !== compression)
    .map(([name, size]) => `; ${name} would take ${formatCount(size)}`);
  const rows = [
    ["part", "numbers", "stored as", "about", "error", ...isMeasured ? ["bits/byte"] : []],
    ...report.parts.map((part) => rowOf(part, isMeasured)),
  ];
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const table = rows.map((row) =>
    row.map((cell, i) => i === 0 || i === 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))
      .join("  ").trimEnd()
  );
  const within = budget === undefined ? [] : [
    `${formatCount(all)} of a budget of ${formatCount(budget)} bytes (${
      (100 * all / budget).toFixed(1)
    } %)${besides > 0 ? `, ${formatCount(besides)} of code among them` : ""}${
      report.outcome === "full" ? ": nothing is left to store more exactly" : ""
    }`,
  ];
  const cost = isMeasured
    ? [
      `bits per byte ${before.toFixed(4)} before, ${after!.toFixed(4)} after: ${
        signed(100 * (after! / before - 1))
      } %`,
    ]
    : [];
  return [
    ...table,
    "",
    `${out}/model.quern: ${formatCount(bytes)} bytes by ${compression}, ${
      plural(headerBytes, "byte")
    } of them header${others.join("")}`,
    ...within,
    ...cost,
  ];
}

function rowOf(
  { part, numbers, forms, bytes, error, bits_per_byte }: PartReport,
  isMeasured: boolean,
) {
  const stored = Object.entries(forms).map(([form, count]) =>
    count === numbers ? form : `${form} ${Math.round(100 * count / numbers)} %`
  ).join(", ");
  const cost = bits_per_byte === undefined ? "" : signed(bits_per_byte, 5);
  return [
    part,
    formatCount(numbers),
    stored,
    formatBytes(bytes),
    `${(100 * Math.sqrt(error)).toFixed(2)} %`,
    ...isMeasured ? [cost] : [],
  ];
}

function signed(x: number, digits = 2): string {
  return `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
}
