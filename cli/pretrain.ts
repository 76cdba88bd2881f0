/**
 * `quern pretrain`: token shards to a trained model in a run folder.
 *
 * @module
 */
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { shellWord } from "../core/io/words.ts";
import type { OpenData, PlannedConfig, PretrainConfig, ResolvedConfig } from "../core/train/mod.ts";
import { loadNamed } from "./named_config.ts";
import { type DataFacts, factsOf, type Resolved } from "./run_memory.ts";
import { type Looked, lookWith, type TrainVerb, trainWith } from "./train_run.ts";
import { type BeginningAt, type Start, startOf, trainCommand } from "./train_start.ts";
import { formatCount } from "./ui/numbers.ts";

const help = `
The run folder holds the resolved config, a manifest, metrics.jsonl, report.html, the tokenizer and
the checkpoints. --set overrides any field of the config, with --resume too: quern goes on with what it says.
Ctrl-C finishes the step, saves, and says how to resume; a second one stops at once.

Examples:
  quern pretrain shakespeare-char --out runs/shakespeare
  quern pretrain shakespeare-char --set steps=200 --set model.qk_norm=true
  quern pretrain llama-5m --dry-run --device webgpu
  quern pretrain --resume runs/shakespeare
  quern pretrain shakespeare-char --from runs/shakespeare --out runs/shakespeare-2
  quern pretrain shakespeare-char --resume auto   # begins, or goes on: the same line each time`;

/** The command with its options. */
export function pretrainCommand(): CommandUnknownOpts {
  return trainCommand(
    "pretrain",
    "begin with the weights of another run, of one of its checkpoints, or of a Hugging Face folder",
  )
    .summary("train a model from a config")
    .description("Trains a model on token shards, as a YAML config says.")
    .addHelpText("after", help)
    .action(async (config, options, command) => {
      const start = startOf(config, options, {
        command,
        example: "quern pretrain shakespeare-char",
      });
      const { json, quiet } = options;
      if (options.dryRun) await lookWith(pretraining, start, options);
      else await trainWith(pretraining, start, options, { json, quiet, summary: true });
    });
}

const pretraining: TrainVerb<PretrainConfig> = {
  load: loadNamed,
  readRun: async (run, overrides) =>
    await (await import("../core/train/mod.ts")).readPretrainConfig(run, overrides),
  async open(config, { start, at, say }) {
    const { openData, requireVocabulary, shardData } = await import("../core/train/mod.ts");
    using stack = new DisposableStack();
    const from = await firstWeights(start, at);
    if (from) stack.use(from);
    const data = stack.use(await openData(config.data, await dataFolders(at, config, say)));
    requireVocabulary(config.model.vocab_size, data.vocabSize);
    const owned = stack.move();
    return {
      ...await lookedAt(config, factsOf(data, config.data.packing)),
      from,
      data: (config) => shardData(data, config as ResolvedConfig),
      remarks: await unmeasured(data),
      [Symbol.asyncDispose]: () => Promise.resolve(owned.dispose()),
    };
  },
  async look(config, { start, at }) {
    const facts = await readFacts(at, config);
    if (at.checkpoint === undefined) await requireFitting(start, config, facts);
    return await lookedAt(config, facts);
  },
  more: moreThan,
};

async function lookedAt(given: PretrainConfig, facts: DataFacts): Promise<Looked> {
  const { resolveConfig } = await import("../core/train/mod.ts");
  return {
    facts,
    resolve: (sizes) => resolveConfig(given, facts.vocab_size, sizes),
    notes: (resolved) => notesOn(given, resolved, facts),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** What makes a run that is done go on: twice its length. */
function moreThan({ steps, max_tokens }: PretrainConfig, step: number): string {
  if (steps !== undefined || max_tokens === undefined) return `steps=${2 * step}`;
  const [, amount, rest] = String(max_tokens).match(/^([\d.]+)(.*)$/)!;
  return shellWord(`max_tokens=${2 * Number(amount)}${rest}`);
}

/** The weights that a run which begins anew begins with, if others than its seed's. */
async function firstWeights(start: Start, { checkpoint }: BeginningAt) {
  if (start.kind === "resume" || start.weights === undefined || checkpoint !== undefined) {
    return undefined;
  }
  const { openAny } = await import("../core/open/mod.ts");
  const { path, average } = start.weights;
  return await openAny(path, { average });
}

/** The same, for a look: whether they are the model's. */
async function requireFitting(start: Start, config: PretrainConfig, data: DataFacts) {
  using weights = await firstWeights(start, { run: "", checkpoint: undefined });
  if (!weights) return;
  const { modelOf, requireTensors } = await import("../core/train/mod.ts");
  const { namedParams } = await import("../core/model/mod.ts");
  const params = namedParams(modelOf(config, data.vocab_size).params);
  requireTensors(weights.file, params.map(({ path, shape }) => ({ name: path, shape })));
}

async function dataFolders(
  { run, checkpoint }: BeginningAt,
  config: PretrainConfig,
  say: (line: string) => void,
): Promise<string[]> {
  const { dataPaths, findData, pathField } = await import("../core/train/mod.ts");
  const paths = dataPaths(config.data);
  if (checkpoint === undefined) return paths;
  const folders = await findData(run, config);
  for (const [i, folder] of folders.entries()) {
    if (folder === paths[i]) continue;
    const field = pathField(config.data, i);
    say(`${field} ${paths[i]} is not here; taken from where it was: ${folder}`);
  }
  return folders;
}

/** Says whose validation loss there will not be. */
async function unmeasured({ sources, isMixture }: OpenData): Promise<string[]> {
  const { holdsOut } = await import("../core/train/mod.ts");
  return sources.filter((source) => !holdsOut(source)).map(({ name }) => {
    const whose = isMixture ? ` of ${name}: it holds` : ": the data hold";
    return `no validation loss${whose} nothing out (quern tokenize --val-fraction)`;
  });
}

/** What the config left open, with the rule that filled it, and what may not be meant so. */
async function notesOn(
  given: PretrainConfig,
  { config, memory }: Resolved<PlannedConfig>,
  data: DataFacts,
): Promise<string[]> {
  const { derivedNumbers, doubtsOf } = await import("../core/train/mod.ts");
  const derived = derivedNumbers(given, config as ResolvedConfig, memory)
    .map(({ name, value, rule }) => `${name} ${value} = ${rule}`);
  const doubts = [...doubtsOf(config), ...spareTokens(config.model.vocab_size, data.vocab_size)];
  return [...derived, ...doubts.map((doubt) => `note: ${doubt}`)];
}

/** A vocabulary is often rounded up; one that is far beyond the data's was mostly meant for others. */
function spareTokens(ofModel: number, ofData: number): string[] {
  if (ofModel <= 2 * ofData + 256) return [];
  const [model, data] = [ofModel, ofData].map(formatCount);
  return [
    `model.vocab_size is ${model}, but the data's tokenizer has ${data}: others are not trained`,
  ];
}

/** Data need not be there where the config says the vocabulary. */
async function readFacts(beginning: BeginningAt, config: PretrainConfig): Promise<DataFacts> {
  const { openData, requireVocabulary } = await import("../core/train/mod.ts");
  const { exists } = await import("../core/io/atomic.ts");
  const { vocab_size } = config.model;
  const folders = await dataFolders(beginning, config, console.error);
  const areThere = await Promise.all(folders.map(exists));
  if (vocab_size !== undefined && areThere.includes(false)) return { vocab_size };
  using data = await openData(config.data, folders);
  requireVocabulary(vocab_size, data.vocabSize);
  return factsOf(data, config.data.packing);
}
