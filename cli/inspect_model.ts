/**
 * What `quern inspect` shows of models, of files of tensors and of configs.
 *
 * @module
 */
import { exists } from "../core/io/atomic.ts";
import { UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import type { ModelFacts } from "../core/inspect/model_facts.ts";
import type { TensorStats } from "../core/inspect/tensors.ts";
import type { OpenedModel } from "../core/open/mod.ts";
import type { AnyConfig, CheckpointState, PretrainConfig } from "../core/train/mod.ts";
import type { InspectOptions, View } from "./inspect.ts";
import { loadNamed } from "./named_config.ts";
import { formatCount, formatQuantity } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";
import { encodedSections, lines, pageOf, type Section } from "./inspect_sections.ts";
import type { Cell } from "./ui/table.ts";

/** A run, a checkpoint, a Hugging Face folder or an artifact. */
export async function viewModel(path: string, options: InspectOptions): Promise<View> {
  const { openAny } = await import("../core/open/mod.ts");
  const { checkpoint, average } = options;
  using opened = await openAny(path, { checkpoint, average });
  const facts = await factsOf(opened.model, opened.config);
  const { namedParams } = await import("../core/model/mod.ts");
  const stats = await statsOf([opened.file], namedParams(opened.model.params), options);
  const state = await stateOf(opened);
  const about = aboutModel(opened, state);
  const { tokenizer } = opened;
  const { encodedText } = await import("../core/inspect/tokenizer_facts.ts");
  const encoded = await encodedSections(tokenizer, options.text);
  const sections = [
    ...encoded,
    ...factSections(facts),
    ...await tensorSections(stats, options.each),
  ];
  return {
    text: () => lines(about, sections),
    json: () => ({
      kind: "model",
      checkpoint: opened.checkpoint,
      step: opened.step,
      ...state && {
        tokens: state.tokens,
        validation_loss: state.validation_loss ?? null,
        checkpoints: state.checkpoints,
        latest: state.latest ?? null,
        best: state.best ?? null,
      },
      tokenizer: { kind: tokenizer.kind, vocab_size: tokenizer.vocabSize, sha256: tokenizer.hash },
      ...factsJson(facts),
      tensors: stats.map(tensorJson),
      ...options.text !== undefined && {
        text: options.text,
        encoded: encodedText(tokenizer, options.text),
      },
    }),
    html: () => pageOf(opened.checkpoint, about, sections),
    nonFinite: bad(stats),
  };
}

/** A file of tensors, or the safetensors of a folder or an index. */
export async function viewTensors(path: string, options: InspectOptions): Promise<View> {
  const { tensorFiles } = await import("../core/inspect/recognise.ts");
  const { openTensorFile } = await import("../core/io/tensors.ts");
  using stack = new DisposableStack();
  const opened = (await tensorFiles(path)).map((file) => openTensorFile(file));
  const files = (await Promise.all(opened)).map((file) => stack.use(file));
  const stats = await statsOf(files, [], options);
  const metadata = Object.assign({}, ...files.map(({ about }) => about));
  const about: Section = {
    title: path,
    header: ["", ""],
    rows: [
      ["files", files.map(({ path }) => path).join(", ")],
      ["tensors", formatCount(stats.length)],
      ["numbers", formatCount(stats.reduce((sum, { count }) => sum + count, 0))],
      ...files.flatMap(({ leftOut = [] }) => leftOut).slice(0, 12).map((
        { name, why },
      ): Cell[] => [name, why]),
      ...Object.entries(metadata).map((
        [name, value],
      ): Cell[] => [name, String(value).slice(0, 200)]),
    ],
  };
  const sections = await tensorSections(stats, options.each);
  return {
    text: () => lines(about, sections),
    json: () => ({
      kind: "tensors",
      files: files.map(({ path }) => path),
      metadata,
      tensors: stats.map(tensorJson),
    }),
    html: () => pageOf(path, about, sections),
    nonFinite: bad(stats),
  };
}

/** A config: what it would train. */
export async function viewConfig(path: string, options: InspectOptions): Promise<View> {
  const config = await loadNamed(
    path,
    options.set ?? [],
    (line) => options.quiet || console.error(line),
  );
  const { modelOf } = await import("../core/train/mod.ts");
  const { vocab, rule } = await vocabOf(path, config);
  const model = modelOf(config, vocab), facts = await factsOf(model, config);
  const { hidden_size, depth, max_position_embeddings } = model.dims;
  const about: Section = {
    title: path,
    header: ["", ""],
    rows: [
      ["hidden_size", formatCount(hidden_size)],
      ["layers passed", formatCount(depth)],
      ["vocab_size", `${formatCount(vocab)} (${rule})`],
      ["positions", formatCount(max_position_embeddings)],
    ],
  };
  const sections = factSections(facts);
  return {
    text: () => lines(about, sections),
    json: () => ({ kind: "config", config: path, vocab_size: vocab, ...factsJson(facts) }),
    html: () => pageOf(path, about, sections),
  };
}

/** The tokens of the model's table: as the config says, or its data. */
async function vocabOf(
  path: string,
  { model, data }: PretrainConfig,
): Promise<{ vocab: number; rule: string }> {
  if (model.vocab_size !== undefined) return { vocab: model.vocab_size, rule: "model.vocab_size" };
  const { dataPaths } = await import("../core/train/mod.ts");
  const { isShards, openShards } = await import("../core/data/shard_reader.ts");
  const [folder] = dataPaths(data);
  if (await isShards(folder)) {
    using shards = await openShards(folder);
    return { vocab: shards.index.vocab_size, rule: `of ${folder}` };
  }
  throw new UserError("the config leaves vocab_size to its data, which are not here", {
    where: `${path}: data ${folder}`,
    hint: "say it: --set model.vocab_size=50257",
  });
}

async function factsOf(model: OpenedModel["model"], config: AnyConfig | undefined) {
  const { modelFacts } = await import("../core/inspect/model_facts.ts");
  const { assumedLimits, webgpuTarget } = await import("../core/device/webgpu/mod.ts");
  // whose limits does not matter: the work is the same
  return modelFacts(model, config?.optimizer, webgpuTarget(assumedLimits));
}

async function statsOf(
  files: readonly Parameters<typeof import("../core/inspect/tensors.ts").tensorStats>[0][],
  params: Parameters<typeof import("../core/inspect/tensors.ts").tensorStats>[1],
  { quiet }: InspectOptions,
): Promise<TensorStats[]> {
  const { tensorStats } = await import("../core/inspect/tensors.ts");
  const progress = progressLine(quiet ? "quiet" : "normal"), found: TensorStats[] = [];
  const all = files.reduce((sum, { tensors }) => sum + tensors.size, 0);
  for (const file of files) {
    for (const one of tensorStats(file, params)) {
      found.push(one);
      progress.update(() => `${found.length} of ${plural(all, "tensor")}: ${one.name}`);
    }
  }
  progress.end();
  return found;
}

interface RunState extends Partial<Pick<CheckpointState, "tokens" | "validation_loss">> {
  readonly checkpoints: readonly string[];
  readonly latest?: string | undefined;
  readonly best?: string | undefined;
}

/** What a run's folder says of a checkpoint; undefined of what is no run. */
async function stateOf({ folder, checkpoint, config }: OpenedModel): Promise<RunState | undefined> {
  if (!config) return undefined;
  const { checkpointName, checkpointsFolder, namedCheckpoint, readState, savedSteps } =
    await import("../core/train/mod.ts");
  const saved = checkpointsFolder(folder);
  const orNothing = <T>(promise: Promise<T>) =>
    promise.catch((error) => {
      if (error instanceof UserError) return undefined; // it has none
      throw error;
    });
  const name = (path: string | undefined) => path?.split(/[\\/]/).at(-1);
  const state = await orNothing(readState(checkpoint));
  return {
    checkpoints: await exists(saved) ? (await savedSteps(saved)).map(checkpointName) : [],
    latest: name(await orNothing(namedCheckpoint(folder, "latest"))),
    best: name(await orNothing(namedCheckpoint(folder, "best"))),
    ...state && { tokens: state.tokens, validation_loss: state.validation_loss },
  };
}

function aboutModel(opened: OpenedModel, state: RunState | undefined): Section {
  const { checkpoint, step, tokenizer, config } = opened;
  const { tokens, validation_loss, checkpoints = [], latest, best } = state ?? {};
  return {
    title: checkpoint,
    header: ["", ""],
    rows: [
      ["step", formatCount(step)],
      ...tokens === undefined ? [] : [["tokens", formatQuantity(tokens)]],
      ...validation_loss === undefined
        ? []
        : [["validation loss", `${validation_loss.toFixed(4)} nats a token`]],
      ...checkpoints.length > 0
        ? [[
          "checkpoints",
          checkpoints.map((name) =>
            name +
            [name === latest && " (latest)", name === best && " (best)"].filter(Boolean).join("")
          ).join(", "),
        ]]
        : [],
      ["tokenizer", `${tokenizer.kind}, ${plural(tokenizer.vocabSize, "token")}`],
      ...config
        ? [["data", `packing ${config.data.packing}, rows of ${config.sequence_length}`]]
        : [],
    ],
  };
}

function factSections(
  { params, byPart, byRole, trained, parts, flopsPerToken }: ModelFacts,
): Section[] {
  const share = (total: number) => `${(100 * total / params).toFixed(1)} %`;
  return [
    {
      title: `parts (${formatQuantity(flopsPerToken)}FLOPs a token forward)`,
      header: ["part", "kind", "settings"],
      rows: parts.map(({ at, kind, settings }) => [at, kind, settings]),
    },
    {
      title: `parameters: ${formatCount(params)}`,
      header: ["part", "parameters", "share", "by role"],
      rows: byPart.map(({ part, total, byRole }) => [
        part,
        total,
        share(total),
        Object.entries(byRole).map(([role, n]) => `${role} ${formatCount(n)}`).join(", "),
      ]),
    },
    trained
      ? {
        title: "roles, and what trains them",
        header: ["role", "parameters", "tensors", "optimizer", "weight decay", "names"],
        rows: trained.map(({ role, total, tensors, kind, weightDecay, params }) => [
          role,
          total,
          tensors,
          kind,
          kind === "frozen"
            ? ""
            : typeof weightDecay === "number"
            ? String(weightDecay)
            : `by schedule: ${weightDecay.kind}`,
          params.join(" "),
        ]),
      }
      : {
        title: "roles",
        header: ["role", "parameters", "tensors"],
        rows: byRole.map(({ role, total, tensors }) => [role, total, tensors]),
      },
  ];
}

function factsJson({ params, byPart, byRole, trained, parts, flopsPerToken }: ModelFacts) {
  return {
    parameters: params,
    flops_per_token_forward: Math.round(flopsPerToken),
    parts: byPart.map(({ part, total, byRole }) => ({ part, total, by_role: byRole })),
    roles: byRole,
    optimizer_groups: trained?.map(({ weightDecay, ...rest }) => ({
      ...rest,
      weight_decay: weightDecay,
    })) ?? null,
    tree: parts,
  };
}

async function tensorSections(stats: readonly TensorStats[], each: boolean): Promise<Section[]> {
  const { groupTensors } = await import("../core/inspect/tensors.ts");
  if (each) {
    return [{
      title: "tensors",
      header: ["tensor", "shape", "dtype", "role", "rms", "max", "mean", "zero", "not finite"],
      rows: stats.map((one) => [
        one.name,
        shapeText(one.shape),
        one.dtype,
        one.role ?? "",
        short(one.rms),
        short(one.max),
        short(one.mean),
        partText(one.zeros, one.count),
        one.nonFinite === 0 ? "" : formatCount(one.nonFinite),
      ]),
    }];
  }
  const groups = groupTensors(stats);
  return [{
    title: "tensors, those of all layers together: rms and max are the least and the greatest",
    header: ["tensors", "count", "shape", "dtype", "role", "rms", "max", "zero", "not finite"],
    rows: groups.map(({ pattern, tensors, shape, dtype, role, rms: [least, most], ...one }) => [
      pattern,
      tensors,
      shape ? shapeText(shape) : "several",
      dtype,
      role ?? "",
      least === most ? short(least) : `${short(least)}–${short(most)}`,
      short(one.max),
      partText(one.zeros, one.count),
      one.nonFinite === 0 ? "" : formatCount(one.nonFinite),
    ]),
  }];
}

/** Three digits. */
const short = (n: number) => String(Number(n.toPrecision(3)));
const shapeText = (shape: readonly number[]) => `[${shape.join(", ")}]`;
const partText = (part: number, all: number) =>
  part === 0 ? "" : part === all ? "all" : `${short(100 * part / all)} %`;

function tensorJson({ nonFinite, ...stats }: TensorStats) {
  return { ...stats, role: stats.role ?? null, non_finite: nonFinite };
}

const bad = (stats: readonly TensorStats[]) =>
  stats.filter(({ nonFinite }) => nonFinite > 0).map(({ name }) => name);
