/** Writing an artifact: measured before and after, part by part, into a folder of its own. */

import { join } from "node:path";
import type { Device } from "../device/types.ts";
import { type BitsJob, measureBits } from "../eval/measure_bits.ts";
import { exists, writeFolderAtomic } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { formatBytes } from "../io/words.ts";
import type { Tensors } from "../io/tensors.ts";
import { modelPartOf, namedParams } from "../model/mod.ts";
import { type ArtifactFacts, artifactFile, artifactTensors } from "../open/artifact.ts";
import type { OpenedModel } from "../open/mod.ts";
import { tokenizerConfigName } from "../text/chat/mod.ts";
import { tokenizerFileName } from "../text/load.ts";
import { decodeArtifact } from "./artifact.ts";
import { givenForms, type Packed, packModel, type PackOptions, type PartCosts } from "./export.ts";
import { estimateBytes, type Form, restore, store } from "./forms.ts";

export interface ArtifactJob {
  readonly opened: OpenedModel;
  /** The folder to be; undefined writes nothing. */
  readonly out: string | undefined;
  readonly average?: string | undefined;
  readonly options: PackOptions;
  /** A text to measure the cost on. */
  readonly measure?: { readonly device: Device; readonly bits: BitsJob } | undefined;
  /** Told what is done now. */
  readonly onPhase?: (phase: string) => void;
}

/** What a part of the model became. */
export interface PartReport {
  readonly part: string;
  readonly numbers: number;
  /** How many numbers have each form. */
  readonly forms: Readonly<Partial<Record<Form, number>>>;
  /** About, after compression. */
  readonly bytes: number;
  /** Squared error beside the squares of its numbers. */
  readonly error: number;
  /** Bits per byte that it alone costs at its least form; undefined where nothing was measured. */
  readonly bits_per_byte: number | undefined;
}

export interface ArtifactReport {
  readonly out: string | undefined;
  readonly bytes: number;
  readonly headerBytes: number;
  readonly besides: number;
  readonly budget: number | undefined;
  readonly outcome: Packed["outcome"];
  readonly compression: string;
  readonly tried: Packed["encoded"]["tried"];
  readonly parts: readonly PartReport[];
  readonly before: number | undefined;
  readonly after: number | undefined;
}

/** Makes an artifact, and writes it whole or not at all. A budget that cannot be kept to is an error, and nothing is written. */
export async function exportArtifact(job: ArtifactJob): Promise<ArtifactReport> {
  const { opened, out, options, measure, onPhase = () => {} } = job;
  if (out !== undefined && await exists(out)) {
    throw new UserError("it exists already", { where: out, hint: "choose another folder" });
  }
  const bitsOf = async (file: Tensors) => {
    if (!measure) return undefined;
    const { bits_per_byte } = await measureBits({ ...opened, file }, measure.device, measure.bits);
    return bits_per_byte;
  };
  if (measure) onPhase("measuring the model as it is");
  const before = await bitsOf(opened.file), costs = new Map<string, number>();
  if (measure) {
    for (const part of partsThatLose(job)) {
      onPhase(`measuring what ${part} costs`);
      costs.set(part, (await bitsOf(withPart(job, part)))! - before!);
    }
  }
  onPhase("packing");
  const packed = packModel(opened.model, opened.file, factsOf(job), options, costs);
  if (packed.outcome === "over") throw tooLarge(packed, options);
  const where = out ?? artifactFile, { bytes } = packed.encoded;
  const back = artifactTensors(decodeArtifact(bytes, where), where);
  if (measure) onPhase("measuring the artifact");
  const after = await bitsOf(back);
  if (out !== undefined) await writeFolder(out, opened.folder, bytes);
  return {
    out,
    bytes: bytes.length,
    headerBytes: packed.encoded.headerBytes,
    besides: options.besides ?? 0,
    budget: options.budget,
    outcome: packed.outcome,
    compression: packed.encoded.compression,
    tried: packed.encoded.tried,
    parts: reportParts(opened, packed, costs),
    before,
    after,
  };
}

function factsOf({ opened, average }: ArtifactJob): Record<string, unknown> {
  const { model, step, tokenizer_sha256, point, beginning } = opened;
  const facts: ArtifactFacts = {
    model: model.config,
    step,
    tokenizer_sha256,
    scalars: Array.from(point.scalars),
    seed: point.seed,
    ...(beginning !== undefined && { beginning }),
    ...(average !== undefined && { average }),
  };
  return JSON.parse(JSON.stringify(facts));
}

/** Parts that are not f16 alone. */
function partsThatLose({ opened: { model }, options }: ArtifactJob): string[] {
  const forms = [...givenForms(model, options)].filter(([, form]) => form !== "f16");
  return [...new Set(forms.map(([name]) => modelPartOf(name)))];
}

/** The model's tensors, those of one part at their least forms. */
function withPart({ opened: { model, file }, options }: ArtifactJob, part: string): Tensors {
  const forms = givenForms(model, options);
  return {
    path: file.path,
    tensors: file.tensors,
    read(name) {
      const form = forms.get(name), values = file.read(name) as Float32Array;
      if (!form || modelPartOf(name) !== part) return values;
      const { shape } = file.tensors.get(name)!;
      return restore(store({ name, shape, read: () => values }, form, options));
    },
    [Symbol.dispose]() {},
  };
}

function reportParts({ model, file }: OpenedModel, { artifact }: Packed, costs: PartCosts) {
  const stored = new Map(artifact.tensors.map((one) => [one.name, one]));
  const paths = namedParams(model.params).map(({ path }) => path);
  const parts = Map.groupBy(paths, modelPartOf);
  return [...parts].map(([part, paths]): PartReport => {
    const forms: Partial<Record<Form, number>> = {};
    let numbers = 0, bytes = 0, error = 0, squares = 0;
    for (const path of paths) {
      const one = stored.get(path)!, values = file.read(path) as Float32Array;
      const back = restore(one);
      back.forEach((x, i) => {
        error += (x - values[i]) ** 2;
        squares += values[i] ** 2;
      });
      numbers += values.length;
      bytes += estimateBytes(one);
      forms[one.form] = (forms[one.form] ?? 0) + values.length;
    }
    return {
      part,
      numbers,
      forms,
      bytes: Math.round(bytes),
      error: squares > 0 ? error / squares : 0,
      bits_per_byte: costs.get(part),
    };
  });
}

function tooLarge({ encoded }: Packed, { budget, besides = 0, matrices }: PackOptions): UserError {
  const all = encoded.bytes.length + besides;
  const with_ = besides > 0 ? `, ${formatBytes(besides)} of code among them` : "";
  return new UserError(
    `the artifact takes ${formatBytes(all)}${with_}: more than the budget of ${
      formatBytes(budget!)
    }`,
    {
      hint: matrices === "fit"
        ? "nothing smaller is left: a larger --budget, or a smaller model"
        : "--forms fit chooses bits by part; or give a larger --budget",
      exitCode: exitCodes.failed,
    },
  );
}

async function writeFolder(out: string, from: string, bytes: Uint8Array): Promise<void> {
  await writeFolderAtomic(out, async (folder) => {
    await Deno.writeFile(join(folder, artifactFile), bytes);
    for (const name of [tokenizerFileName, tokenizerConfigName]) {
      if (await exists(join(from, name))) await Deno.copyFile(join(from, name), join(folder, name));
    }
  });
}
