/**
 * A chat, line by line: messages are answered on stdout, commands obeyed, all else said on stderr.
 *
 * @module
 */
import process from "node:process";
import { styleText } from "node:util";
import {
  type AnswerEvent,
  type ChatEvent,
  type ChatModel,
  openChat,
} from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { type ChatState, commandIn, messageIn, runCommand } from "./chat_commands.ts";
import type { ChatLines, Line } from "./chat_lines.ts";
import { chatOptionsOf, type ChatSettings } from "./chat_settings.ts";
import { print, readingTime, speed, type Verbosity } from "./generate_one.ts";
import { explainError } from "./ui/errors.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { messageLines } from "./ui/message_lines.ts";
import { formatCount } from "./ui/numbers.ts";
import { noteFolded } from "./ui/terminal.ts";

export interface ChatOutput {
  readonly format: "text" | "json";
  readonly verbosity: Verbosity;
}

export interface ChatBeginning {
  readonly model: ChatModel;
  readonly settings: ChatSettings;
  readonly system: string | undefined;
}

/** Until the lines end or somebody leaves. What is wrong ends a pipe's chat, and is said on a terminal. */
export async function chatBy(
  lines: ChatLines,
  { model, settings, system }: ChatBeginning,
  output: ChatOutput,
): Promise<void> {
  using chat = openChat(model);
  if (system !== undefined) chat.instruct(system);
  const state: ChatState = { model, chat, settings, note: (text) => noteFolded(text) };
  for (;;) {
    const said = new AbortController();
    const next = nextMessage(lines).finally(() => said.abort());
    // who sits at a terminal thinks and types meanwhile
    const settled = lines.kind === "terminal" && turn().then(() => chat.settle(said.signal));
    const [message] = await Promise.all([next, settled]);
    if (!message) return;
    await lines.remember(message.text);
    try {
      const after = await obey(state, message.text, output);
      if (after === "leave") return;
      if (after === "interrupted" && lines.kind === "pipe") {
        throw new UserError("interrupted", { exitCode: exitCodes.interrupted });
      }
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      if (lines.kind === "pipe") throw placed(error, message);
      noteFolded(explainError(error).text);
    }
  }
}

const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

/** Lines up to a whole message that is not blank. */
async function nextMessage(lines: ChatLines): Promise<Line | undefined> {
  let begun = messageLines(), where: string | undefined;
  for (;;) {
    const line = await lines.next(begun.isOpen);
    if (line === "cancel") [begun, where] = [messageLines(), undefined];
    else if (line) {
      where ??= line.where;
      const text = begun.push(line.text);
      if (text !== undefined && text.trim() !== "") return { text, ...(where && { where }) };
      if (text !== undefined) where = undefined;
    } else {
      const rest = lines.kind === "pipe" ? begun.end() : undefined;
      return rest === undefined ? undefined : { text: rest, ...(where && { where }) };
    }
  }
}

/** Answers a message, or does what a command says. */
async function obey(
  state: ChatState,
  text: string,
  output: ChatOutput,
): Promise<"leave" | "interrupted" | undefined> {
  const command = commandIn(text);
  const after = command ? await runCommand(state, command) : "answer";
  if (after !== "answer") return after === "leave" ? "leave" : undefined;
  using interruption = listenForInterrupt("interrupted");
  const { chat, settings } = state, options = chatOptionsOf(settings, interruption.signal);
  const events = command ? chat.again(options) : chat.say(messageIn(text), options);
  const end = await tell(events, state, output);
  state.settings = { ...settings, seed: (settings.seed + 1) >>> 0 };
  return end.reason === "interrupted" ? "interrupted" : undefined;
}

/** Prints an answer as it comes, and what there is to say of it. */
async function tell(
  events: AsyncIterable<ChatEvent>,
  { chat, model, settings }: ChatState,
  { format, verbosity }: ChatOutput,
): Promise<AnswerEvent> {
  const full = `the model's context of ${plural(model.decoder.room.capacity, "token")} is full`;
  let notes: string[] = [], isBegun = false;
  const say = () => {
    if (verbosity === "normal") notes.forEach((text) => noteFolded(text, dim));
    notes = [];
  };
  for await (const event of events) {
    if (event.kind === "forget") {
      const turns = event.turns === 1 ? "turn is" : `${event.turns} turns are`;
      notes.push(`note: ${full}: the oldest ${turns} no longer read`);
      if (!isBegun || format === "json") say(); // else behind the answer
      continue;
    }
    if (format === "text") print(event.text);
    isBegun ||= event.text !== "";
    if (event.kind === "token") continue;
    print(
      format === "text"
        ? "\n"
        : `${JSON.stringify(jsonOf(event, settings.seed, chat.forgotten))}\n`,
    );
    notes.push(...closing(event, full, settings));
    say();
    return event;
  }
  throw new Error("the answer has no end");
}

function closing(
  event: AnswerEvent,
  full: string,
  { maxTokens, context }: ChatSettings,
): string[] {
  const { reason, tokens } = event;
  const why: Partial<Record<AnswerEvent["reason"], string>> = {
    stop: "stopped: a stop text came",
    max_tokens: `stopped after ${plural(maxTokens, "token")}: /set max-tokens ${
      2 * maxTokens
    } allows more`,
    context: context === "slide"
      ? `stopped: ${full} of this turn alone`
      : `stopped: ${full}; /clear forgets the conversation, /set context slide its oldest turns`,
    interrupted: tokens > 0 ? "stopped; what was said is kept" : "stopped: nothing was said",
  };
  return [timing(event), ...(why[reason] === undefined ? [] : [why[reason]])];
}

/** Reading and writing apart, each with its speed. */
function timing(event: AnswerEvent): string {
  const { promptTokens, readTokens, tokens, prefillSeconds, decodeSeconds } = event;
  const some = readTokens < promptTokens
    ? `${formatCount(readTokens)} of ${plural(promptTokens, "token")}`
    : plural(promptTokens, "token");
  return `${readingTime(`read ${some}`, readTokens, prefillSeconds)}, then ${
    formatCount(tokens)
  } at ${speed(tokens, decodeSeconds)}`;
}

function jsonOf(event: AnswerEvent, seed: number, forgotten: number): Record<string, unknown> {
  return {
    role: "assistant",
    content: event.content,
    reason: event.reason,
    seed,
    prompt_tokens: event.promptTokens,
    read_tokens: event.readTokens,
    tokens: event.tokens,
    prefill_seconds: event.prefillSeconds,
    decode_seconds: event.decodeSeconds,
    reread_seconds: event.rereadSeconds,
    forgotten_turns: forgotten,
  };
}

function dim(text: string): string {
  return styleText("dim", text, { stream: process.stderr });
}

/** An error at the line that it is about, unless it has a place of its own. */
function placed(error: UserError, { where }: Line): UserError {
  if (error.where !== undefined || where === undefined) return error;
  if (error.exitCode === exitCodes.interrupted) return error;
  const { message, hint, exitCode, cause } = error;
  return new UserError(message, { where, exitCode, cause, ...(hint !== undefined && { hint }) });
}
