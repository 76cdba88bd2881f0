/** The README of an exported model: what it is, how good it is, and how to load it. */

import { stringify } from "yaml";
import { plural } from "../io/words.ts";
import { blocksOf, countAll, type Model, namedParams } from "../model/mod.ts";
import type { ExportDtype } from "./shards.ts";

/** What a run knows of itself; what is left out is not known. */
export interface Figures {
  readonly name: string;
  readonly step: number;
  /** Targets trained on. */
  readonly tokens?: number | undefined;
  /** Nats a token. */
  readonly validation_loss?: number | undefined;
  readonly bits_per_byte?: number | undefined;
  readonly average?: string | undefined;
}

export interface CardFacts {
  readonly model: Pick<Model, "config" | "params" | "dims">;
  readonly figures: Figures;
  readonly version: string;
  readonly architecture: string;
  readonly why: string | undefined;
  readonly dtype: ExportDtype;
}

export function modelCard({ model, figures, version, ...loading }: CardFacts): string {
  const { name, step, tokens, validation_loss, bits_per_byte, average } = figures;
  const count = countAll(namedParams(model.params)), { dims } = model;
  const rows: [string, string | undefined][] = [
    ["parameters", count.toLocaleString("en-US")],
    ["vocabulary", dims.vocab_size.toLocaleString("en-US")],
    ["context", plural(dims.max_position_embeddings, "token")],
    ["updates", step.toLocaleString("en-US")],
    ["trained on", tokens === undefined ? undefined : plural(tokens, "token")],
    ["validation loss", validation_loss?.toFixed(4).concat(" nats a token")],
    ["bits per byte", bits_per_byte?.toFixed(4)],
    ["weights", `${loading.dtype}${average === undefined ? "" : `, ${average} of the run`}`],
  ];
  const table = rows.flatMap(([key, value]) =>
    value === undefined ? [] : [`| ${key} | ${value} |`]
  );
  return `---
library_name: transformers
pipeline_tag: text-generation
tags: [quern]
---

# ${name}

A language model that quern ${version} trained.

| | |
|---|---|
${table.join("\n")}

## Load it

${howToLoad(loading)}
Back in quern: \`quern generate FOLDER "…"\`, \`quern import FOLDER --out runs/mine\`.

## The model

\`\`\`yaml
${stringify(blocksOf(model.config), { aliasDuplicateObjects: false }).trim()}
\`\`\`
`;
}

function howToLoad({ architecture, why }: Pick<CardFacts, "architecture" | "why">): string {
  const trust = why === undefined ? "" : ", trust_remote_code=True";
  const plain = why === undefined ? "" : `
With torch alone, in this folder (it needs no other package):

\`\`\`python
from modeling_quern import load_quern
model = load_quern(".")
logits = model(torch.tensor([[1, 2, 3]])).logits
\`\`\`

It trains with \`labels\` (and \`segment_ids\` where documents share a row) as any model of transformers does, under torchrun,
DeepSpeed or FSDP (\`Layer\` is what to wrap). \`model.set_step(n)\` moves values that the run scheduled.
`;
  return `\`${architecture}\`${why === undefined ? "" : `, because ${why}`}.

\`\`\`python
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("FOLDER"${trust})
model = AutoModelForCausalLM.from_pretrained("FOLDER"${trust})
\`\`\`
${plain}
`;
}
