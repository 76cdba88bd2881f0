/** A model that was packed small: a folder with `model.quern`, or that file, with the tokenizer beside it. */

import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { exists } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import type { Tensors } from "../io/tensors.ts";
import { buildModel, completeModel, modelConfig } from "../model/mod.ts";
import { type Artifact, decodeArtifact, isArtifact } from "../quant/artifact.ts";
import { restore } from "../quant/forms.ts";
import type { Levels } from "../quant/levels.ts";
import { loadTokenizer, tokenizerFileName } from "../text/load.ts";
import type { OpenedModel } from "./open.ts";

/** The artifact's own file in its folder. */
export const artifactFile = "model.quern";

/** What an artifact says of its model besides the tensors. */
export const artifactFacts = z.strictObject({
  /** As a config's `model`, nothing left open. */
  model: modelConfig,
  /** Updates that the weights were trained for. */
  step: z.int().min(0),
  tokenizer_sha256: z.string(),
  /** Values that the run scheduled, at the step, and its seed. */
  scalars: z.array(z.number()),
  seed: z.int().min(0),
  /** The token before each document in training. */
  beginning: z.int().min(0).optional(),
  /** Which average of the weights they are. */
  average: z.string().optional(),
});
export type ArtifactFacts = z.input<typeof artifactFacts>;

/** The artifact that a path means: itself, or that in a folder; undefined where it is none. */
export async function artifactAt(path: string): Promise<string | undefined> {
  const found = await Deno.stat(path).catch(() => undefined);
  if (found?.isDirectory) {
    const file = join(path, artifactFile);
    return await exists(file) ? file : undefined;
  }
  if (!found?.isFile) return undefined;
  using file = await Deno.open(path);
  const start = new Uint8Array(8), count = await file.read(start);
  return isArtifact(start.subarray(0, count ?? 0)) ? path : undefined;
}

/** Reads all of it: an artifact is small. */
export async function openArtifact(path: string): Promise<OpenedModel> {
  const artifact = decodeArtifact(await Deno.readFile(path), path), folder = dirname(path);
  const parsed = artifactFacts.safeParse(artifact.facts);
  if (!parsed.success) {
    const [{ path: field, message }] = parsed.error.issues;
    throw new UserError(`what the artifact says of its model: ${field.join(".")}: ${message}`, {
      where: path,
      hint: "it may come from another version of quern",
      exitCode: exitCodes.failed,
    });
  }
  const { model: config, step, tokenizer_sha256, scalars, seed, beginning } = parsed.data;
  const tokenizer = await loadTokenizer(folder);
  if (tokenizer.hash !== tokenizer_sha256) {
    throw new UserError("not the tokenizer that the model was trained with", {
      where: join(folder, tokenizerFileName),
      hint: `copy it from where ${basename(path)} was made`,
      exitCode: exitCodes.failed,
    });
  }
  const { vocab_size = tokenizer.vocabSize, max_position_embeddings } = config;
  if (max_position_embeddings === undefined || vocab_size < tokenizer.vocabSize) {
    throw new UserError("what the artifact says of its model: its sizes are damaged", {
      where: path,
      exitCode: exitCodes.failed,
    });
  }
  const model = buildModel(completeModel(config, { vocab_size, max_position_embeddings }));
  return {
    folder,
    checkpoint: path,
    config: undefined,
    model,
    tokenizer,
    tokenizer_sha256,
    file: artifactTensors(artifact, path),
    step,
    point: { scalars: Float32Array.from(scalars), seed, step },
    beginning,
    [Symbol.dispose]() {},
  };
}

/** An artifact's tensors: as f32 numbers, and those that are levels as levels, too. */
export function artifactTensors(
  { tensors }: Pick<Artifact, "tensors">,
  path: string,
): Tensors & { levels(name: string): Levels | undefined } {
  const found = new Map(tensors.map((one) => [one.name, one]));
  return {
    path,
    tensors: new Map(tensors.map(({ name, shape }) => [name, { shape, dtype: "F32" as const }])),
    read: (name) => restore(found.get(name)!),
    levels(name) {
      const one = found.get(name);
      return one?.form === "f16" ? undefined : one?.levels;
    },
    [Symbol.dispose]() {},
  };
}
