/** Several trainings of one model as one: the mean of their weights (Izmailov et al. 2018, Wortsman et al. 2022). */

import { isTaken, writeFolderAtomic } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { countAll, namedParams } from "../model/mod.ts";
import { saveWeights, writeImportedRun } from "../train/mod.ts";
import { keepTokenizerConfig, runConfigOf } from "./import.ts";
import { openAny, type OpenedModel, type WhichWeights } from "./open.ts";

export interface AverageJob {
  /** Two at least: whatever `openAny` opens. */
  readonly from: readonly string[];
  /** How much each counts, in any unit; left out, they count alike. */
  readonly weights?: readonly number[] | undefined;
  readonly which?: WhichWeights;
  /** The run's folder; whatever is there already is an error. */
  readonly out: string;
  readonly session: { readonly version: string; readonly command: readonly string[] };
}

export interface Averaged {
  /** What was taken, and its part of the mean; the parts sum to 1. */
  readonly from: readonly {
    readonly checkpoint: string;
    readonly step: number;
    readonly part: number;
  }[];
  /** The latest of theirs: schedules stand there. */
  readonly step: number;
  readonly params: number;
}

/** Sums are f64; one tensor of each is in memory at a time. */
export async function averageModels(job: AverageJob): Promise<Averaged> {
  const { from, out, session } = job, weights = weightsOf(job);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (await isTaken(out)) {
    throw new UserError("it exists already", { where: out, hint: "choose another --out" });
  }
  using stack = new DisposableStack();
  const opened: OpenedModel[] = [];
  for (const path of from) opened.push(stack.use(await openAny(path, job.which)));
  requireAlike(opened);
  const latest = opened.reduce((a, b) => b.step > a.step ? b : a), { step, tokenizer } = latest;
  const taken = opened.map(({ checkpoint, step }, i) => ({
    checkpoint,
    step,
    part: weights[i] / total,
  }));
  const params = namedParams(latest.model.params);
  const imported = {
    from: taken.map(({ checkpoint }) => checkpoint).join(", "),
    format: "average",
  };
  await writeFolderAtomic(out, async (folder) => {
    await writeImportedRun(folder, runConfigOf(latest), tokenizer, {
      ...session,
      imported: { ...imported, from: taken },
    });
    await keepTokenizerConfig(latest, folder);
    await saveWeights(
      folder,
      { step, tokenizer_sha256: tokenizer.hash, imported },
      params.map(({ path, shape }) => ({
        name: path,
        shape,
        dtype: "F32",
        data: () => meanOf(opened.map(({ file }) => file.read(path) as Float32Array), weights),
      })),
    );
  });
  return { from: taken, step, params: countAll(params) };
}

function meanOf(all: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const sums = new Float64Array(all[0].length);
  all.forEach((values, k) => {
    const weight = weights[k];
    for (let i = 0; i < values.length; i++) sums[i] += weight * values[i];
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return Float32Array.from(sums, (sum) => sum / total);
}

function weightsOf({ from, weights = from.map(() => 1) }: AverageJob): readonly number[] {
  if (from.length < 2) throw new UserError("a mean of one is itself: give two or more");
  if (weights.length !== from.length) {
    throw new UserError(`${weights.length} weights for ${from.length} models`, {
      where: "--weights",
      hint: "one for each, in their order",
    });
  }
  const sum = weights.reduce((a, b) => a + b, 0);
  if (sum !== 0 && Number.isFinite(sum)) return weights;
  throw new UserError(`the weights sum to ${sum}`, { where: "--weights" });
}

/** Weights of models that differ, or that read other ids, have no mean. */
function requireAlike([first, ...others]: readonly OpenedModel[]): void {
  const shapes = ({ model }: OpenedModel) =>
    new Map(namedParams(model.params).map(({ path, shape }) => [path, `[${shape}]`]));
  const wanted = shapes(first);
  for (const other of others) {
    const fail = (what: string) =>
      new UserError(what, { where: other.checkpoint, exitCode: exitCodes.failed });
    const found = shapes(other);
    for (const path of new Set([...wanted.keys(), ...found.keys()])) {
      const [ours, theirs] = [wanted, found].map((all) => all.get(path) ?? "not there");
      if (ours === theirs) continue;
      throw fail(`another model: ${path} is ${theirs}, in ${first.checkpoint} ${ours}`);
    }
    if (other.tokenizer_sha256 === first.tokenizer_sha256) continue;
    throw fail(`its tokenizer is not that of ${first.checkpoint}`);
  }
}
