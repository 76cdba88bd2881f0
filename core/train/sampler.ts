/** Texts from weights in training: a decoder over the trainer's own state, of which it changes nothing that training reads. */

import type { Device, StateStore } from "../device/types.ts";
import { Decoder } from "../generate/decoder.ts";
import { type ChatModel, openChat } from "../generate/chat.ts";
import { generate, type GenerateOptions, requirePrompts } from "../generate/generate.ts";
import type { TextModel } from "../generate/open.ts";
import { hasPenalties } from "../generate/penalties.ts";
import { type Layout, traceDecode, tracePrefill } from "../generate/programs.ts";
import { philox, streamOf } from "../graph/mod.ts";
import { type Model, scalarValues } from "../model/mod.ts";
import { type Plan, planGraph, type Target } from "../plan/mod.ts";
import { UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { type ChatTemplate, encodePrompt } from "../text/chat/mod.ts";
import { type RunConfig, verbOf } from "./config.ts";
import type { SampleEvent } from "./events.ts";
import type { SamplesConfig } from "./samples_config.ts";
import { timelineOf } from "./timeline.ts";
import type { TrainingData } from "./training_data.ts";

/** The cache is as long as in generation, so that a checkpoint gives the same text there. */
function layoutOf(model: Model, { penalty }: SamplesConfig): Layout {
  return {
    batch: 1,
    capacity: model.dims.max_position_embeddings,
    weights: "f32",
    penalties: hasPenalties(penalty) ? "counted" : "none",
  };
}

/** What is planned for samples besides training: the state that they need, and for a dry run their memory. None if they are off. */
export function samplingPlans<L>(
  config: RunConfig,
  model: Model,
  target: Target<L>,
): Plan<L>[] {
  const { samples } = config;
  if (samples.every === 0) return [];
  const layout = layoutOf(model, samples);
  // no tokenizer makes more tokens than bytes; more begin a document, or a turn
  const longest = Math.max(...samples.prompts.map((text) => new TextEncoder().encode(text).length));
  const around = verbOf(config) === "sft" ? turnTokens : 1;
  const chunk = Decoder.chunkFor(Math.min(longest + around, layout.capacity));
  return [traceDecode(model, layout), tracePrefill(model, layout, chunk)].map((graph) =>
    planGraph(graph, target)
  );
}

/** About so many tokens a template has around what a user says. */
const turnTokens = 16;

/** Continues a config's prompts, or where texts are conversations answers them, with the weights that a store holds at the time. */
export class Sampler implements Disposable {
  private constructor(
    readonly config: RunConfig,
    readonly open: TextModel & { readonly template?: ChatTemplate | undefined },
  ) {}

  /** Undefined where the config wants no samples. A prompt that the model cannot read is an error. */
  static async create(
    config: RunConfig,
    { tokenizer, beginning, template }: Pick<TrainingData, "tokenizer" | "beginning" | "template">,
    { model, device, state }: { model: Model; device: Device; state: StateStore },
  ): Promise<Sampler | undefined> {
    const { samples } = config;
    if (samples.every === 0) return undefined;
    const decoder = await Decoder.over(state, model, device, layoutOf(model, samples));
    const open = { tokenizer, decoder, beginning, template };
    using stack = new DisposableStack();
    stack.use(decoder);
    const prompts = samples.prompts.map((text, i) => ({ text, where: `samples.prompts[${i}]` }));
    if (!template) requirePrompts(open, prompts);
    else for (const prompt of prompts) requireQuestion({ ...open, template }, prompt);
    stack.move();
    return new Sampler(config, open);
  }

  /** A text for each prompt, what `quern generate` would make of it with the event's seed. */
  async *sample(step: number): AsyncGenerator<SampleEvent, void> {
    const { samples, seed: runSeed } = this.config;
    const { temperature, top_k: topK, top_p: topP, min_p: minP, penalty, stop } = samples;
    this.open.decoder.point = {
      scalars: scalarValues(this.open.decoder.model, timelineOf(this.config), step),
      seed: runSeed,
      step,
    };
    const [first] = philox(0, step, streamOf("samples"), 0, runSeed, 0);
    for (const [i, prompt] of samples.prompts.entries()) {
      const seed = (first + i) >>> 0;
      const sampling = { temperature, topK, topP, minP, seed, penalties: penalty };
      const options = { maxTokens: samples.max_tokens, sampling, stops: stop };
      const made = await this.#textAfter(prompt, options);
      const form = this.open.template && { form: "answer" as const };
      yield { kind: "sample", step, prompt, ...form, ...made, seed };
    }
  }

  async #textAfter(
    prompt: string,
    options: GenerateOptions,
  ): Promise<Pick<SampleEvent, "text" | "reason" | "tokens">> {
    const { template } = this.open;
    using chat = template && openChat({ ...this.open, template });
    let text = "";
    for await (
      const event of chat ? chat.say(prompt, options) : generate(this.open, prompt, options)
    ) {
      text += event.text;
      if (event.kind !== "end" && event.kind !== "answer") continue;
      const { reason, tokens } = event;
      return { text, reason, tokens };
    }
    throw new Error("the text has no end");
  }

  [Symbol.dispose](): void {
    this.open.decoder[Symbol.dispose]();
  }
}

/** Refuses a question that leaves no room for an answer. */
function requireQuestion(
  { tokenizer, template, beginning, decoder }: ChatModel,
  { text, where }: { readonly text: string; readonly where: string },
): void {
  const question = [{ role: "user", content: text }] as const;
  const { length } = encodePrompt(template, tokenizer, question, { beginning });
  if (decoder.roomAfter(length) > 0) return;
  throw new UserError(
    `it comes to ${plural(length, "token")}, but the context ends at ${decoder.room.capacity}`,
    { where, hint: "shorten it" },
  );
}
