/** A published checkpoint as a run of ours: its weights under our names, with config and tokenizer. */

import { isTaken, writeFolderAtomic } from "../io/atomic.ts";
import { didYouMean, UserError } from "../io/errors.ts";
import type { TensorSource } from "../io/safetensors.ts";
import { countAll } from "../model/mod.ts";
import { completeOptimizer } from "../optim/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import {
  type AnyConfig,
  hasAutoSizes,
  modelOf,
  type PretrainConfig,
  type ResolvedConfig,
  saveWeights,
  timelineOf,
  writeImportedRun,
} from "../train/mod.ts";
import { mapCheckpoint, type Mapping, recognize } from "./mapping.ts";
import { mappedTensors, requireTwins } from "./mapped.ts";
import type { ImportTable } from "./table.ts";
import { importTables } from "./tables/mod.ts";
import { openWeights, type Weights } from "./weights.ts";

export interface ImportJob {
  /** A file of tensors, an index of several, or a folder that holds them. */
  readonly from: string;
  readonly config: PretrainConfig;
  readonly tokenizer: Tokenizer;
  /** The run's folder; undefined looks and writes nothing. */
  readonly out: string | undefined;
  /** A table's name. Left out: the one that knows all names. */
  readonly format?: string | undefined;
  /** Updates that the weights were trained for, where schedules stand. Left out: the config's. */
  readonly step?: number | undefined;
  readonly session: { readonly version: string; readonly command: readonly string[] };
}

export interface Imported {
  readonly mapping: Mapping;
  readonly tensors: Weights["tensors"];
  readonly files: readonly string[];
  /** What the files hold besides tensors of the model. */
  readonly leftOut: Weights["leftOut"];
  readonly step: number;
  readonly params: number;
}

/** Writes the run whole or not at all; whatever is at `out` already is an error. */
export async function importCheckpoint(job: ImportJob): Promise<Imported> {
  const { config, tokenizer, out, from } = job;
  await refuseTaken(out);
  requireIds(config, tokenizer);
  const model = modelOf(config, tokenizer.vocabSize), step = job.step ?? lengthOf(config);
  const complete = {
    ...config,
    model: model.config,
    optimizer: completeOptimizer(config.optimizer),
  };
  using weights = await openWeights(from);
  const table = job.format === undefined
    ? recognize(importTables, weights.tensors, from)
    : tableNamed(job.format);
  const mapping = mapCheckpoint(table, model, weights.tensors, from);
  if (out !== undefined) requireTwins(mapping, weights);
  return await writeImport(job, { config: complete, tokenizer, step, mapping, weights });
}

/** Whatever is there already is an error. */
export async function refuseTaken(out: string | undefined): Promise<void> {
  if (out === undefined || !await isTaken(out)) return;
  throw new UserError("it exists already", { where: out, hint: "choose another --out" });
}

/** What an import found, as a run of it is written. */
export interface FoundRun {
  readonly config: AnyConfig;
  readonly tokenizer: Tokenizer;
  readonly step: number;
  readonly mapping: Mapping;
  readonly weights: Weights;
  /** Puts more into the run's folder. */
  readonly place?: (folder: string) => Promise<void>;
}

/** Writes the run whole or not at all; none where there is no `out`. */
export async function writeImport(
  { from, out, session }: Pick<ImportJob, "from" | "out" | "session">,
  { config, tokenizer, step, mapping, weights, place }: FoundRun,
): Promise<Imported> {
  if (out !== undefined) {
    const imported = { from, format: mapping.table.name };
    await writeFolderAtomic(out, async (folder) => {
      await writeImportedRun(folder, config, tokenizer, { ...session, imported });
      await place?.(folder);
      const state = { step, tokenizer_sha256: tokenizer.hash, imported };
      await saveWeights(folder, state, sourcesOf(mapping, weights));
    });
  }
  return {
    mapping,
    tensors: weights.tensors,
    files: weights.files,
    leftOut: weights.leftOut,
    step,
    params: countAll(mapping.origins.map(({ param }) => param)),
  };
}

function requireIds({ model: { vocab_size } }: PretrainConfig, tokenizer: Tokenizer): void {
  if (vocab_size === undefined || vocab_size >= tokenizer.vocabSize) return;
  throw new UserError(
    `the tokenizer has ${tokenizer.vocabSize} tokens, the model only ${vocab_size}`,
    {
      where: "model.vocab_size",
      hint: "give the tokenizer that the model was trained with",
    },
  );
}

/** Updates in all; 0 where nothing says. */
function lengthOf(config: PretrainConfig): number {
  if (config.steps !== undefined || hasAutoSizes(config)) return config.steps ?? 0;
  const { steps } = timelineOf(config as ResolvedConfig);
  return Number.isFinite(steps) ? steps : 0;
}

function tableNamed(name: string): ImportTable {
  const names = Object.keys(importTables);
  if (names.includes(name)) return importTables[name];
  throw new UserError(`no format is called ${name}${didYouMean(name, names)}`, {
    hint: `known: ${names.join(", ")}`,
  });
}

/** Those of one tensor of theirs stand together, so that each is read once. */
function sourcesOf(mapping: Mapping, weights: Weights): TensorSource[] {
  const groups = Object.values(Object.groupBy(mapping.origins, ({ theirs }) => theirs));
  const { read } = mappedTensors(mapping, weights);
  return groups.flatMap((group) => group ?? []).map(({ param: { path, shape } }) => ({
    name: path,
    shape,
    dtype: "F32" as const,
    data: () => read(path),
  }));
}
