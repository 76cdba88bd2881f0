/** A chat: turns with a model, which reads of each only what is new. */

import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { type ChatTemplate, encodePrompt, endOfTurn, type Message } from "../text/chat/mod.ts";
import type { Spent } from "./context.ts";
import { continuation } from "./continuation.ts";
import {
  type Conversation,
  conversationOf,
  emptyConversation,
  messagesOf,
  withAnswer,
  withoutAnswer,
  withoutLast,
  withoutOldest,
  withSystem,
  withTurn,
} from "./conversation.ts";
import type { Sampling } from "./decoder.ts";
import type { GenerateOptions, StopReason, TokenEvent } from "./generate.ts";
import type { TextModel } from "./open.ts";
import { openSession, type Session } from "./session.ts";

/** A model, and the form of conversations that it learned. */
export interface ChatModel extends TextModel {
  readonly template: ChatTemplate;
}

export type ChatOptions = Omit<GenerateOptions, "alternatives">;

/** So many of the oldest turns are no longer read: the context was full. */
export interface ForgetEvent {
  readonly kind: "forget";
  readonly turns: number;
  readonly text: "";
}

/** An answer is over. */
export interface AnswerEvent extends Readonly<Spent> {
  readonly kind: "answer";
  /** What was held back as perhaps half a character, or the beginning of a stop text. */
  readonly text: string;
  /** The whole answer. */
  readonly content: string;
  readonly reason: StopReason;
  /** Tokens of the conversation before the answer, and those of them that had to be read. */
  readonly promptTokens: number;
  readonly readTokens: number;
  readonly tokens: number;
}

export type ChatEvent = TokenEvent | ForgetEvent | AnswerEvent;

/** Holds the model until it is disposed of. */
export interface Chat extends Disposable {
  readonly conversation: Conversation;
  /** How many of the oldest turns are no longer read. */
  readonly forgotten: number;
  /** Says something, and tells the answer as it comes. What cannot be said leaves no trace. */
  say(text: string, options: ChatOptions): AsyncGenerator<ChatEvent, void>;
  /** Answers the last message anew; an error where there is none. */
  again(options: ChatOptions): AsyncGenerator<ChatEvent, void>;
  /** Takes the last turn back and returns what was said in it. */
  undo(): string | undefined;
  /** Goes on with another conversation; left out: with none, under the same system's message. */
  begin(messages?: readonly Message[]): void;
  instruct(system: string | undefined): void;
  /** Reads what was said last while nobody waits for an answer: see `Session.settle`. */
  settle(signal: AbortSignal): Promise<void>;
}

export function openChat(model: ChatModel): Chat {
  const session = openSession(model.decoder);
  let conversation = emptyConversation, forgotten = 0;
  let read: readonly number[] = []; // the conversation so far, as ids

  async function* answer(asked: Conversation, options: ChatOptions) {
    let content = "", first = forgotten;
    for await (const event of answerTo(asked, { session, model, options, forgotten })) {
      content += event.text;
      if (event.kind === "forget") first += event.turns;
      // kept before it is told, as a caller may look no further
      if (event.kind === "ended") {
        read = event.ids;
        const isNothing = event.end.reason === "interrupted" && content === "";
        if (!isNothing) [conversation, forgotten] = [withAnswer(asked, content), first];
        yield { ...event.end, text: event.text, content };
      } else yield event;
    }
  }

  return {
    get conversation() {
      return conversation;
    },
    get forgotten() {
      return forgotten;
    },
    say: (text, options) =>
      answer(withTurn(conversation, [{ role: "user", content: text }]), options),
    async *again(options) {
      if (conversation.turns.length === 0) {
        throw new UserError("there is nothing to answer yet", { exitCode: exitCodes.failed });
      }
      yield* answer(conversation, options);
    },
    undo() {
      const said = conversation.turns.at(-1)?.[0].content;
      conversation = withoutLast(conversation);
      forgotten = Math.min(forgotten, Math.max(0, conversation.turns.length - 1));
      return said;
    },
    begin(messages) {
      const { head } = conversation;
      conversation = messages ? conversationOf(messages) : { head, turns: [] };
      forgotten = 0;
    },
    instruct(system) {
      conversation = withSystem(conversation, system);
    },
    settle: (signal) => session.settle(read, signal),
    [Symbol.dispose]: () => session[Symbol.dispose](),
  };
}

interface Answering {
  readonly session: Session;
  readonly model: ChatModel;
  readonly options: ChatOptions;
  readonly forgotten: number;
}

/** The end, and the ids of the whole conversation with the answer. */
interface EndedEvent {
  readonly kind: "ended";
  readonly text: string;
  readonly ids: readonly number[];
  readonly end: Omit<AnswerEvent, "text" | "content">;
}

async function* answerTo(
  asked: Conversation,
  { session, model, options, forgotten }: Answering,
): AsyncGenerator<TokenEvent | ForgetEvent | EndedEvent, void> {
  const { maxTokens, stops = [], context = "stop", signal } = options, { decoder } = model;
  const answered = continuation(model.tokenizer, stops, endOfTurn(model.template, model.tokenizer));
  const spent: Spent = { prefillSeconds: 0, decodeSeconds: 0, rereadSeconds: 0 };
  const question = withoutAnswer(asked), made: number[] = [];
  let prompt: number[] = [], first = forgotten, readTokens = 0;
  const isDone = () =>
    answered.ended !== undefined || made.length >= maxTokens || signal?.aborted === true;
  while (!isDone()) {
    const fitting = fit(question, { model, first, made: made.length, maxTokens, context });
    if (!fitting) break;
    const turns = fitting.first - first;
    ({ prompt, first } = fitting);
    if (turns > 0) yield { kind: "forget", turns, text: "" };
    const ids = [...prompt, ...made], began = performance.now();
    const reading = await session.read(ids);
    await decoder.device.idle();
    const begun = performance.now();
    spent[made.length === 0 ? "prefillSeconds" : "rereadSeconds"] += (begun - began) / 1000;
    if (made.length === 0) readTokens = reading.read + 1; // the last is read with the first step
    const room = decoder.roomAfter(ids.length);
    const steps = session.steps(
      Math.min(maxTokens - made.length, room),
      samplingOf(options, prompt),
      made.length,
    );
    try {
      for await (const { tokens: [id], logprobs: [logprob] } of steps) {
        if (signal?.aborted) break;
        const text = answered.push(id);
        made.push(id);
        if (answered.ended === undefined || text !== "") yield { kind: "token", id, logprob, text };
        if (answered.ended !== undefined) break;
      }
    } finally {
      spent.decodeSeconds += (performance.now() - begun) / 1000;
    }
  }
  const text = answered.end(); // asked first: it may end in a stop text
  const last = signal?.aborted ? "interrupted" : made.length < maxTokens ? "context" : "max_tokens";
  yield {
    kind: "ended",
    text,
    ids: [...prompt, ...made],
    end: {
      kind: "answer",
      reason: answered.ended ?? last,
      promptTokens: prompt.length,
      readTokens,
      tokens: made.length,
      ...spent,
    },
  };
}

function samplingOf({ sampling, penalized }: ChatOptions, prompt: readonly number[]): Sampling {
  const { penalties } = sampling;
  if (!penalties || penalized !== "all") return sampling;
  return { ...sampling, penalties: { ...penalties, before: [prompt] } };
}

interface Fitting {
  readonly model: ChatModel;
  /** Turns before this one are forgotten already. */
  readonly first: number;
  /** Tokens of the answer that are there already. */
  readonly made: number;
  readonly maxTokens: number;
  readonly context: NonNullable<ChatOptions["context"]>;
}

/**
 * The ids before an answer. A context that slides loses its oldest turns where less than a quarter of
 * it is left for the answer, until half of it is: so it is not read anew in each turn that follows.
 * Undefined where there is no room for more of an answer that was begun.
 */
function fit(question: Conversation, { model, first, made, maxTokens, context }: Fitting) {
  const { capacity } = model.decoder.room, last = question.turns.length - 1;
  const promptFrom = (turn: number) => idsOf(model, withoutOldest(question, turn));
  const left = (prompt: readonly number[]) => capacity + 1 - prompt.length - made;
  const enough = (part: number) => Math.min(maxTokens - made, Math.floor(capacity / part));
  let prompt = promptFrom(first);
  if (context === "slide" && left(prompt) < Math.max(1, enough(4))) {
    while (first < last && left(prompt) < Math.max(1, enough(2))) prompt = promptFrom(++first);
  }
  if (left(prompt) > 0) return { prompt, first };
  if (made > 0) return undefined;
  throw fullContext(model, question, { prompt, first, context });
}

function idsOf({ template, tokenizer, beginning }: ChatModel, conversation: Conversation) {
  return Array.from(encodePrompt(template, tokenizer, messagesOf(conversation), { beginning }));
}

function fullContext(
  { decoder: { room: { capacity } } }: ChatModel,
  { turns }: Conversation,
  { prompt, first, context }: Pick<Fitting, "first" | "context"> & { prompt: readonly number[] },
): UserError {
  const isAlone = first === turns.length - 1;
  const what = isAlone ? "the message" : "the conversation";
  return new UserError(
    `${what} comes to ${
      plural(prompt.length, "token")
    }, but the model's context ends at ${capacity}`,
    {
      hint: isAlone
        ? "shorten it, or the system's message"
        : context === "stop"
        ? "forget all of it or a turn (/clear, /undo), or let the oldest turns go: context slide"
        : "shorten the message",
      exitCode: exitCodes.failed,
    },
  );
}
