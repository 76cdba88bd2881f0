/** What a run of fine-tuning begins with: a trained model, a tokenizer that has the template's tokens, and rows for them. */

import { didYouMean, exitCodes, UserError } from "../io/errors.ts";
import type { Tensors } from "../io/tensors.ts";
import {
  buildModel,
  type CompleteModelConfig,
  grownTable,
  type ModelConfig,
  namedParams,
  tokenTables,
  type VocabularyGrowth,
  withVocabulary,
} from "../model/mod.ts";
import { openAny, type OpenedModel, type WhichWeights } from "../open/mod.ts";
import {
  chatml,
  type ChatTemplate,
  findChatTemplate,
  missingTokens,
  openChatTemplate,
} from "../text/chat/mod.ts";
import { loadTokenizer } from "../text/load.ts";
import { withSpecialTokens } from "../text/special_tokens.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { trainingDisagreements } from "../train/agreements.ts";
import { readSftConfig } from "../train/run_config.ts";
import type { FirstWeights } from "../train/beginning.ts";
import type { SftConfig, SftFacts } from "./config.ts";
import type { ConversationForm } from "./prepare.ts";

/** Close it with `using`. */
export interface SftBase extends Disposable {
  readonly form: ConversationForm;
  readonly facts: Pick<SftFacts, "from" | "model" | "template" | "beginning">;
  /** Weights of the new run; undefined where a run goes on. */
  readonly weights: FirstWeights | undefined;
  /** Special tokens that the tokenizer got, and rows that the model's tables got for them. */
  readonly added: readonly string[];
  readonly addedRows: number;
  /** Scheduled values of the model that stay as they are from now on, by name. */
  readonly frozen: Readonly<Record<string, number>>;
}

/** Of a run that begins. */
export async function openBase(
  config: SftConfig,
  which: Pick<WhichWeights, "average"> = {},
): Promise<SftBase> {
  if (config.from === undefined) {
    throw new UserError("what is to be tuned?", {
      where: "from",
      hint: "name a run, a checkpoint or a folder in Hugging Face's layout: --from runs/mine",
    });
  }
  using stack = new DisposableStack();
  const base = stack.use(await openAny(config.from, which));
  const [template, name] = await templateOf(config, base);
  const missing = missingTokens(template, base.tokenizer);
  const tokenizer = await withSpecialTokens(base.tokenizer, missing);
  const before = base.model.config, { model: frozenModel, values } = withFrozenScalars(base);
  const model = withVocabulary(frozenModel, tokenizer.vocabSize);
  const growth = {
    known: base.tokenizer.vocabSize,
    fresh: missing.map((name) => tokenizer.specialTokens.get(name)!),
  };
  const beginning = beginningName(config, base, tokenizer);
  requireAgreement({ ...config, model });
  const owned = stack.move();
  return {
    form: formOf(template, tokenizer, beginning),
    facts: { from: base.checkpoint, model, template: name, beginning },
    weights: {
      checkpoint: base.checkpoint,
      step: base.step,
      tokenizer_sha256: tokenizer.hash,
      file: missing.length > 0 ? grownTensors(base.file, before, model, growth) : base.file,
      [Symbol.dispose]() {},
    },
    added: missing,
    addedRows: model.vocab_size - before.vocab_size,
    frozen: values,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Of a run that goes on: all is in its folder, whatever the config says that it goes on with. */
export async function reopenBase(run: string, config: SftConfig): Promise<SftBase> {
  const stored = await readSftConfig(run), { model, from, template: name } = stored;
  if (model?.vocab_size === undefined || from === undefined || name === undefined) {
    throw new UserError("config.yaml says nothing of the model", {
      where: run,
      exitCode: exitCodes.failed,
    });
  }
  const tokenizer = await loadTokenizer(run), template = await openChatTemplate(run);
  const { beginning = stored.beginning ?? null } = config;
  return {
    form: formOf(template, tokenizer, beginning),
    facts: { from, model: model as CompleteModelConfig, template: name, beginning },
    weights: undefined,
    added: [],
    addedRows: 0,
    frozen: {},
    [Symbol.dispose]() {},
  };
}

/** What could not be checked while the model was not known; before anything is read for long. */
function requireAgreement(config: SftConfig): void {
  const [fault] = trainingDisagreements(config);
  if (fault) throw new UserError(fault.message, { where: fault.path.join(".") });
}

function formOf(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  beginning: string | null,
): ConversationForm {
  const id = beginning === null ? undefined : tokenizer.specialTokens.get(beginning);
  return { template, tokenizer, beginning: id };
}

/** The template, and what a config calls it. */
async function templateOf(
  { template: name }: SftConfig,
  { folder }: OpenedModel,
): Promise<[ChatTemplate, string]> {
  if (name !== undefined) return [await openChatTemplate(name), name];
  const own = await findChatTemplate(folder);
  return own ? [own, own === chatml ? chatml.name : folder] : [chatml, chatml.name];
}

function beginningName(
  { beginning: given }: SftConfig,
  { beginning: id }: OpenedModel,
  { specialTokens }: Tokenizer,
): string | null {
  const names = [...specialTokens.keys()];
  if (given === undefined) return names.find((name) => specialTokens.get(name) === id) ?? null;
  if (given === null || specialTokens.has(given)) return given;
  throw new UserError(`the tokenizer has no special token ${given}${didYouMean(given, names)}`, {
    where: "beginning",
    hint: `it has ${names.join(", ")}`,
  });
}

/** The model with numbers in place of its schedules: what they gave at the step that its weights are of. */
function withFrozenScalars({ model, point }: OpenedModel) {
  // a vector of f32 on its way; as written, 0.1 is 0.1
  const values = model.scalars.map(({ name, schedule }, i) => ({
    name,
    schedule,
    value: Number(point.scalars[i].toPrecision(7)),
  })).filter(({ schedule }) => typeof schedule !== "number");
  const bySchedule = new Map<unknown, number>(
    values.map(({ schedule, value }) => [schedule, value]),
  );
  return {
    model: replaced(model.config, bySchedule),
    values: Object.fromEntries(values.map(({ name, value }) => [name, value])),
  };
}

/** A tree with numbers in the place of some of its parts, which are found by what they are. */
function replaced<T extends ModelConfig>(config: T, numbers: ReadonlyMap<unknown, number>): T {
  const walk = (tree: unknown): unknown => {
    const number = numbers.get(tree);
    if (number !== undefined) return number;
    if (Array.isArray(tree)) return tree.map(walk);
    if (typeof tree !== "object" || tree === null) return tree;
    return Object.fromEntries(Object.entries(tree).map(([name, part]) => [name, walk(part)]));
  };
  return walk(config) as T;
}

/** A model's tensors with rows for new tokens. */
function grownTensors(
  file: Tensors,
  before: CompleteModelConfig,
  after: CompleteModelConfig,
  growth: VocabularyGrowth,
): Tensors {
  const tables = tokenTables(before);
  const grown = new Map(
    namedParams(buildModel(after).params).filter(({ path }) => tables.has(path))
      .map((param) => [param.path, param]),
  );
  return {
    path: file.path,
    tensors: new Map(
      [...file.tensors].map(([name, info]) => {
        const param = grown.get(name);
        return [name, param ? { ...info, shape: param.shape } : info];
      }),
    ),
    read(name) {
      const param = grown.get(name), values = file.read(name);
      return param ? grownTable(param, values as Float32Array, growth) : values;
    },
    [Symbol.dispose]: () => file[Symbol.dispose](),
  };
}
