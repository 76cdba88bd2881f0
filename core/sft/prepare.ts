/** Conversations rendered and encoded once, into a folder that training reads in any order. */

import { join } from "node:path";
import { z } from "zod";
import { conversationsIndex, conversationWriter } from "../data/conversation_store.ts";
import { isHeldOut } from "../data/divide.ts";
import {
  type ConversationAttempt,
  type ConversationReading,
  conversationsOf,
  type ReadingEvents,
} from "../data/chat/mod.ts";
import { expandInputs, requireOnce } from "../data/inputs.ts";
import { sourceNames } from "../data/mixture.ts";
import { orLeaveOut } from "../data/record.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import {
  type ChatTemplate,
  cutConversation,
  encodeConversation,
  type EncodedConversation,
  type Message,
} from "../text/chat/mod.ts";
import { dataPaths } from "../train/data_config.ts";
import { sha256, type Tokenizer } from "../text/tokenizer.ts";
import type { ConversationConfig, SftConfig } from "./config.ts";

/** What became of the conversations of a source. */
const countsSchema = z.strictObject({
  /** Records that were read. */
  conversations: z.int(),
  /** That lost their end. */
  truncated: z.int(),
  /** Too long, and left out. */
  dropped: z.int(),
  /** Without a target, whole or where they were cut; left out. */
  masked: z.int(),
  /** That cannot be read, or not be trained on by the template; left out. */
  skipped: z.int(),
});
export type ConversationCounts = z.output<typeof countsSchema>;

const sourceSchema = z.strictObject({
  /** As the config says it. */
  path: z.string(),
  name: z.string(),
  train: conversationsIndex,
  val: conversationsIndex,
  counts: countsSchema,
});

export const preparedSchema = z.strictObject({
  format: z.literal("quern-conversations"),
  version: z.literal(1),
  /** Names all that they were made by and from. */
  key: z.string(),
  tokenizer_sha256: z.string(),
  sources: z.array(sourceSchema).min(1),
});
/** What a folder of prepared conversations says of itself. */
export type Prepared = z.output<typeof preparedSchema>;

export const preparedFile = "index.json";

/** What makes ids of conversations. */
export interface ConversationForm {
  readonly template: ChatTemplate;
  readonly tokenizer: Tokenizer;
  /** The id before each conversation. */
  readonly beginning: number | undefined;
}

export interface PrepareJob {
  readonly config: SftConfig;
  readonly form: ConversationForm;
}

/** Who is told. */
export interface PrepareEvents extends Pick<ReadingEvents, "onShape"> {
  onProgress?(done: { readonly conversations: number }): void;
  /** A record that is left out. */
  onSkip?(fault: UserError): void;
  readonly signal?: AbortSignal;
}

/** Files, and how they are read. */
type Source = { readonly path: string | readonly string[] } & ConversationReading;

/** What a config reads: its sources, in order, and what is only measured, if it names such. */
export function sourcesOf(data: ConversationConfig): { trained: Source[]; measured?: Source } {
  const { path, shape, fields, ignore, system, sources, validation } = data;
  const trained = sources ?? [{ path: path!, shape, fields, ignore, system }];
  return { trained, ...("path" in validation && { measured: validation }) };
}

/** What the prepared conversations of a config are known by: weights, sizes and the like may change within a run. */
export function keyOf(
  { data, sequence_length, loss_on, seed }: SftConfig,
  { template, tokenizer, beginning }: ConversationForm,
): string {
  const { overlong, on_error, validation } = data, { trained } = sourcesOf(data);
  const sources = trained.map(({ path, shape, fields, ignore, system }) => [
    [path, shape, fields, ignore, system],
  ]);
  const form = [template.source, tokenizer.hash, beginning ?? null, sequence_length, loss_on];
  return sha256(JSON.stringify([sources, overlong, on_error, validation, seed, form]));
}

/** Fills a folder. A source of which nothing is left to train on is an error. */
export async function prepareConversations(
  folder: string,
  job: PrepareJob,
  events: PrepareEvents = {},
): Promise<Prepared> {
  const { config, form } = job, { trained, measured } = sourcesOf(config.data);
  const all = [...trained, ...measured ? [measured] : []];
  const paths = dataPaths({ sources: all }), names = sourceNames(paths);
  const sources: Prepared["sources"] = [];
  for (const [i, { path, ...reading }] of all.entries()) {
    const files = await expandInputs(typeof path === "string" ? [path] : path);
    await requireOnce(files);
    const isMeasured = i === trained.length;
    const place = { folder, number: i, files, reading, isMeasured };
    sources.push({ path: paths[i], name: names[i], ...await prepareSource(job, events, place) });
  }
  const prepared: Prepared = {
    format: "quern-conversations",
    version: 1,
    key: keyOf(config, form),
    tokenizer_sha256: form.tokenizer.hash,
    sources,
  };
  await Deno.writeTextFile(join(folder, preparedFile), `${JSON.stringify(prepared, null, 2)}\n`);
  return prepared;
}

interface SourcePlace {
  readonly folder: string;
  readonly number: number;
  readonly files: readonly string[];
  readonly reading: ConversationReading;
  /** Whether all of it is held out. */
  readonly isMeasured: boolean;
}

async function prepareSource(
  job: PrepareJob,
  events: PrepareEvents,
  { folder, number, isMeasured, ...source }: SourcePlace,
) {
  const { data: { validation }, seed } = job.config, { onProgress, onSkip, signal } = events;
  const fraction = isMeasured ? 1 : "fraction" in validation ? validation.fraction : 0;
  using stack = new DisposableStack();
  const open = (split: string) => stack.use(conversationWriter(folder, `${number}.${split}`));
  const [train, val] = ["train", "val"].map(open);
  const counts = { conversations: 0, truncated: 0, dropped: 0, masked: 0, skipped: 0 };
  let kept = 0;
  for await (const { outcome, conversation, bytes = 0, fault } of outcomesOf(job, source, events)) {
    if (counts.conversations++ % 256 === 0) {
      signal?.throwIfAborted();
      onProgress?.(counts);
    }
    if (outcome !== "whole") counts[outcome]++;
    if (fault) onSkip?.(fault);
    if (!conversation) continue;
    const isHeld = fraction === 1 || isHeldOut(kept++, fraction, seed);
    (isHeld ? val : train).add({ ...conversation, bytes });
  }
  const found = { train: train.finish(), val: val.finish(), counts };
  const where = source.files.join(", ");
  requireSome(isMeasured ? found.val : found.train, counts, { where, config: job.config });
  return found;
}

/** What becomes of a conversation: `whole` and `truncated` ones are trained on. */
export interface Outcome {
  /** File and line, or row. */
  readonly where: string;
  readonly outcome: "whole" | "truncated" | "dropped" | "masked" | "skipped";
  /** As it is trained on; absent where it is left out. */
  readonly conversation?: EncodedConversation;
  /** Tokens before it was cut. */
  readonly tokens?: number;
  /** UTF-8 bytes of the text that it stands for, about, where it was cut. */
  readonly bytes?: number;
  /** Why it cannot be used. */
  readonly fault?: UserError;
}

/** What becomes of all conversations that a config trains on, in order. */
export async function* trainedOutcomes(
  job: PrepareJob,
  events: Pick<PrepareEvents, "onShape"> = {},
): AsyncGenerator<Outcome> {
  for (const { path, ...reading } of sourcesOf(job.config.data).trained) {
    const files = await expandInputs(typeof path === "string" ? [path] : path);
    yield* outcomesOf(job, { files, reading }, events);
  }
}

async function* outcomesOf(
  { config, form }: PrepareJob,
  { files, reading }: Pick<SourcePlace, "files" | "reading">,
  { onShape }: Pick<PrepareEvents, "onShape">,
): AsyncGenerator<Outcome> {
  for await (const attempt of conversationsOf(files, reading, { ...(onShape && { onShape }) })) {
    yield outcomeOf(attempt, config, form);
  }
}

function outcomeOf(
  attempt: ConversationAttempt,
  config: SftConfig,
  form: ConversationForm,
): Outcome {
  let where: string | undefined;
  try {
    const { messages, ...place } = attempt();
    where = place.where;
    return { where, ...encode(messages, config, form) };
  } catch (error) {
    const fault = placed(error, where);
    if (!(fault instanceof UserError)) throw fault;
    if (config.data.on_error === "stop") throw orLeaveOut(fault, "--set data.on_error=skip");
    return { where: fault.where ?? "", outcome: "skipped", fault };
  }
}

function encode(
  messages: readonly Message[],
  { sequence_length, loss_on, data: { overlong } }: SftConfig,
  { template, tokenizer, beginning }: ConversationForm,
): Omit<Outcome, "where"> {
  const options = { loss: loss_on, beginning };
  const whole = encodeConversation(template, tokenizer, messages, options);
  const tokens = whole.ids.length, most = sequence_length + 1; // the last is a target alone
  const isLong = tokens > most;
  if (isLong && overlong === "drop") return { outcome: "dropped", tokens };
  if (isLong && overlong === "error") throw overlongError(tokens - 1, sequence_length);
  const conversation = isLong ? cutConversation(whole, most) : whole;
  const { ids, weights } = conversation;
  if (!weights.subarray(1).some((weight) => weight > 0)) return { outcome: "masked", tokens };
  const bytes = messages.reduce((sum, { content }) => sum + utf8.encode(content).length, 0);
  return {
    outcome: isLong ? "truncated" : "whole",
    conversation,
    tokens,
    bytes: Math.round(bytes * ids.length / tokens),
  };
}

const utf8 = new TextEncoder();

function overlongError(tokens: number, sequence_length: number): UserError {
  return new UserError(
    `the conversation has ${
      plural(tokens, "token")
    } to be read, a row ${sequence_length} (sequence_length)`,
    {
      hint: `data.overlong: truncate cuts such conversations, drop leaves them out`,
      exitCode: exitCodes.failed,
    },
  );
}

/** An error with the record's place; whoever encodes does not know it. */
function placed(error: unknown, where: string | undefined): unknown {
  if (!(error instanceof UserError) || error.where !== undefined || where === undefined) {
    return error;
  }
  const { message, hint, exitCode } = error;
  return new UserError(message, { where, exitCode, ...(hint !== undefined && { hint }) });
}

function requireSome(
  { conversations }: { readonly conversations: number },
  counts: ConversationCounts,
  { where, config: { sequence_length, data: { overlong } } }: {
    readonly where: string;
    readonly config: SftConfig;
  },
): void {
  if (conversations > 0) return;
  const rows = counts.masked > 0 && overlong === "truncate"
    ? `; what is cut behind ${plural(sequence_length, "token")} (sequence_length) is not learned`
    : "";
  throw new UserError("no conversation is left to train on", {
    where,
    hint: `${countsText(counts)}${rows}`,
    exitCode: exitCodes.failed,
  });
}

/** "7,473 conversations, 12 truncated, …", for people; only what there is. */
export function countsText(counts: ConversationCounts): string {
  const { conversations, ...others } = counts;
  const words: Readonly<Record<keyof typeof others, string>> = {
    truncated: "cut at the row's end (overlong)",
    dropped: "left out as too long (overlong)",
    masked: "left out, without anything to learn",
    skipped: "left out with faults (on_error)",
  };
  const found = Object.entries(others).filter(([, count]) => count > 0)
    .map(([name, count]) =>
      `${count.toLocaleString("en-US")} ${words[name as keyof typeof words]}`
    );
  return [plural(conversations, "conversation"), ...found].join(", ");
}
