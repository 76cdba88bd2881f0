/** A run in Hugging Face's layout: what transformers, and whatever reads its files, loads. */

import { join } from "node:path";
import { llama, originsOf, plainFields, torchTable } from "../import/mod.ts";
import { exists, writeFolderAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import type { TensorSource } from "../io/safetensors.ts";
import { blocksOf, countAll, type Model, namedParams } from "../model/mod.ts";
import { type OpenedModel, readJson, tokenName } from "../open/mod.ts";
import { tokenizerConfigName } from "../text/chat/mod.ts";
import { tokenizerFileName } from "../text/load.ts";
import type { ResolvedConfig } from "../train/mod.ts";
import { timelineOf } from "../train/mod.ts";
import { type Figures, modelCard } from "./card.ts";
import { templateField } from "./chat_template.ts";
import { converted, type ExportDtype, exportDtypes, writeShards } from "./shards.ts";
import { specialName, tokenizerJson } from "./tokenizer.ts";
import { plainSchedules, torchModule } from "./torch/module.ts";

export interface HuggingfaceJob {
  readonly opened: OpenedModel;
  /** The folder; whatever is there already is an error. */
  readonly out: string;
  readonly dtype: ExportDtype;
  readonly shardBytes: number;
  /** `module`: the PyTorch module even where a standard class computes the same. */
  readonly form: "standard" | "module";
  readonly version: string;
  readonly figures: Figures;
}

/** What an export wrote. */
export interface Exported {
  /** The class that loads it. */
  readonly architecture: string;
  /** Why no standard class does; undefined where one does. */
  readonly why: string | undefined;
  readonly files: readonly string[];
  readonly tensors: number;
  readonly params: number;
}

/** A model's names there, and how its config says what it is. */
interface Layout {
  readonly architecture: string;
  readonly why: string | undefined;
  readonly names: ReadonlyMap<string, string>;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Files of code, by name. */
  readonly code: ReadonlyMap<string, string>;
}

const dtypeNames = { f32: "float32", bf16: "bfloat16", f16: "float16" } as const;

export async function exportHuggingface(job: HuggingfaceJob): Promise<Exported> {
  const { opened, out, dtype, shardBytes, version } = job, { model, tokenizer, file } = opened;
  const layout = layoutOf(opened, job.form), params = namedParams(model.params);
  const tensors = params.map(({ path, shape }): TensorSource => ({
    name: layout.names.get(path)!,
    shape: shape.length === 0 ? [1] : shape, // FSDP shards no parameter without an axis
    dtype: exportDtypes[dtype],
    data: () => converted(file.read(path) as Float32Array, dtype, path),
  }));
  const texts = new Map(layout.code), json = tokenizerJson(tokenizer, opened.beginning);
  const put = (name: string, value: object) =>
    texts.set(name, `${JSON.stringify(value, null, 2)}\n`);
  if (json !== undefined) texts.set(tokenizerFileName, json);
  const settings = await tokenizerConfig(opened), eos = endOf(opened, settings);
  put(tokenizerConfigName, settings);
  const ids = { bos_token_id: opened.beginning ?? null, eos_token_id: eos ?? null };
  put("config.json", {
    architectures: [layout.architecture],
    ...layout.fields,
    ...ids,
    torch_dtype: dtypeNames[dtype],
    quern: { version, step: opened.step, config: opened.config, ...ownTokenizer(opened, json) },
  });
  put("generation_config.json", {
    ...ids,
    pad_token_id: eos ?? null,
    do_sample: true,
    temperature: 0.8,
    ...(layout.why !== undefined && { use_cache: false }),
  });
  const { architecture, why } = layout, { figures } = job;
  texts.set("README.md", modelCard({ model, figures, version, architecture, why, dtype }));
  const files = [...texts.keys()];
  await writeFolderAtomic(out, async (folder) => {
    for (const [name, text] of texts) await Deno.writeTextFile(join(folder, name), text);
    files.push(...await writeShards(folder, tensors, shardBytes));
  });
  return { architecture, why, files, tensors: tensors.length, params: countAll(params) };
}

function layoutOf({ model, config, step }: OpenedModel, form: HuggingfaceJob["form"]): Layout {
  const plain = form === "module" ? "the module was asked for" : plainFields(model);
  if (typeof plain !== "string") {
    const names = new Map(
      originsOf(llama, model).map(({ param, theirs }) => [
        param.path,
        theirs.startsWith("lm_head.") ? theirs : `model.${theirs}`,
      ]),
    );
    const { kind, architecture } = plain;
    const fields = { model_type: kind, ...plain.fields, use_cache: true };
    return { architecture, why: undefined, names, fields, code: new Map() };
  }
  return {
    architecture: "QuernForCausalLM",
    why: plain,
    names: new Map(
      originsOf(torchTable(model), model).map(({ param, theirs }) => [param.path, theirs]),
    ),
    fields: torchFields(model, config as ResolvedConfig | undefined, step),
    code: torchModule(model),
  };
}

function torchFields(model: Model, config: ResolvedConfig | undefined, step: number) {
  const tree = blocksOf(model.config), { dims } = model;
  if (model.scalars.length > 0 && !config) {
    throw new UserError("nothing says how its scheduled values stand: it has no run's config", {
      where: "config",
    });
  }
  const clock = config && timelineOf(config);
  return {
    model_type: "quern",
    auto_map: {
      AutoConfig: "configuration_quern.QuernConfig",
      AutoModelForCausalLM: "modeling_quern.QuernForCausalLM",
    },
    vocab_size: dims.vocab_size,
    hidden_size: dims.hidden_size,
    num_hidden_layers: dims.depth,
    max_position_embeddings: dims.max_position_embeddings,
    tie_word_embeddings: false, // the tree's head says it
    use_cache: false,
    tree,
    schedules: clock ? plainSchedules(model, clock) : {},
    loss: config?.loss ?? {},
    step,
  };
}

/** Ours where theirs is made from it: its hash names it. */
function ownTokenizer({ tokenizer }: OpenedModel, json: string | undefined) {
  return json === tokenizer.file ? {} : { tokenizer: tokenizer.file };
}

/** What stands in the model's folder, whole, with what says how texts begin and end. */
export async function tokenizerConfig(opened: OpenedModel): Promise<Record<string, unknown>> {
  const { folder, tokenizer, beginning, model } = opened;
  const path = join(folder, tokenizerConfigName);
  const own = await exists(path) ? await readJson(path) : {};
  const end = specialName(tokenizer, tokenizer.endOfText);
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    model_max_length: model.dims.max_position_embeddings,
    clean_up_tokenization_spaces: false,
    eos_token: end,
    pad_token: end,
    ...own,
    ...await templateField(opened),
    bos_token: specialName(tokenizer, beginning) ?? tokenName(own.bos_token) ?? null,
    add_bos_token: beginning !== undefined,
  };
}

/** The token that ends what the model says. */
export function endOf({ tokenizer }: OpenedModel, { eos_token }: Record<string, unknown>) {
  return tokenizer.specialTokens.get(tokenName(eos_token) ?? "");
}
