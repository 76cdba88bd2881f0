/** What a model reads: shots and questions as one text or as a chat, and that as tokens. Pure but for the tokenizer. */

import { type ChatTemplate, encodePrompt, endOfTurn } from "../text/chat/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { TokenRow } from "./score/rows.ts";
import type { GenerateRequest, Shot, Task, TaskRequest } from "./types.ts";
import { windowsOnce } from "./windows.ts";

/** `joint`: context and continuation as one text, as the harness does; `separate`: each by itself. */
export type Tokenization = "joint" | "separate";

export interface Reader {
  readonly tokenizer: Pick<Tokenizer, "encode" | "endOfText" | "specialTokens">;
  /** The token before each text, where the model was trained with one. */
  readonly beginning: number | undefined;
  readonly tokenization: Tokenization;
  /** Left out: no chat. */
  readonly chat?: ChatTemplate | undefined;
  /** Tokens that the model can read. */
  readonly positions: number;
  /** What texts are generated at most, whatever a task says. */
  readonly max_new_tokens?: number | undefined;
}

type Joined = Pick<Task, "description" | "target_delimiter" | "fewshot_delimiter" | "output_type">;

/** A request as it is asked: its texts, and its tokens. */
export type Prompt =
  | {
    readonly kind: "loglikelihood";
    readonly context: string;
    readonly continuation: string;
    readonly row: TokenRow;
  }
  | {
    readonly kind: "loglikelihood_rolling";
    readonly text: string;
    readonly rows: readonly TokenRow[];
  }
  | {
    readonly kind: "generate_until";
    readonly context: string;
    readonly request: GenerateRequest;
    /** Whether the beginning of the context is left out. */
    readonly is_cut: boolean;
  };

/** Description, shots and query as one text. */
export function contextText(task: Joined, shots: readonly Shot[], query: string): string {
  const { description, target_delimiter, fewshot_delimiter } = task;
  const before = shots.map(({ question, answer }) =>
    question + target_delimiter + answer + fewshot_delimiter
  );
  return description + before.join("") + query;
}

export function promptOf(
  task: Joined,
  shots: readonly Shot[],
  request: TaskRequest,
  reader: Reader,
): Prompt {
  switch (request.kind) {
    case "loglikelihood":
      return likelihoodPrompt(task, contextText(task, shots, request.query), request, reader);
    case "loglikelihood_rolling": {
      const { kind, text } = request;
      return { kind, text, rows: rollingRows(text, reader) };
    }
    case "generate_until":
      return generatePrompt(contextText(task, shots, request.query), request, reader);
  }
}

function likelihoodPrompt(
  { output_type, target_delimiter }: Joined,
  text: string,
  { kind, continuation: given }: Extract<TaskRequest, { kind: "loglikelihood" }>,
  reader: Reader,
): Prompt {
  const { chat, tokenizer } = reader;
  if (!chat) {
    return { kind, context: text, continuation: given, row: pairRow(text, given, reader) };
  }
  // a chat's answer begins by itself: no delimiter is before a choice
  const isChoice = output_type === "multiple_choice" && given.startsWith(target_delimiter);
  const continuation = isChoice ? given.slice(target_delimiter.length) : given;
  const { ids, context } = chatContext(chat, text, reader), scored = tokenizer.encode(continuation);
  return { kind, context, continuation, row: rowOf(ids, scored) };
}

/** The text as a user's message, up to where the answer begins. */
function chatContext(chat: ChatTemplate, text: string, { tokenizer, beginning }: Reader) {
  const messages = [{ role: "user" as const, content: text }], { specialTokens } = tokenizer;
  const pieces = chat.render(messages, { prompt: "assistant", required: [], specialTokens });
  return {
    ids: encodePrompt(chat, tokenizer as Tokenizer, messages, { beginning }),
    context: pieces.map(({ text }) => text).join(""),
  };
}

function rowOf(context: ArrayLike<number>, continuation: ArrayLike<number>): TokenRow {
  const ids = [...Array.from(context), ...Array.from(continuation)];
  return { ids, scored: continuation.length };
}

/** Context and continuation as tokens; an empty context is the token that begins, or else ends, a text. */
export function pairRow(context: string, continuation: string, reader: Reader): TokenRow {
  const { tokenizer, beginning, tokenization } = reader;
  const first = beginning ?? tokenizer.endOfText,
    start = beginning === undefined ? [] : [beginning];
  if (context === "") {
    const ids = tokenizer.encode(continuation);
    return first === undefined
      ? { ids, scored: Math.max(0, ids.length - 1) } // nothing stands before its first token
      : rowOf([first], ids);
  }
  if (tokenization === "separate") {
    return rowOf([...start, ...tokenizer.encode(context)], tokenizer.encode(continuation));
  }
  const [left, right] = movedSpaces(context, continuation);
  const ids = tokenizer.encode(left), whole = tokenizer.encode(left + right);
  const scored = whole.slice(ids.length);
  const begun = [...start, ...ids];
  return rowOf(
    begun.length === 0 && first !== undefined ? [first] : begun,
    // one token may take in both texts: then the second is scored as it is alone
    scored.length === 0 ? tokenizer.encode(right) : scored,
  );
}

/** White space at a context's end belongs to the continuation, whose first token mostly begins with it. */
export function movedSpaces(context: string, continuation: string): [string, string] {
  // deno-lint-ignore no-control-regex -- they are white space to Python
  const [spaces] = context.match(/(?:(?!\ufeff)[\s\x1c-\x1f\x85])*$/)!;
  return [context.slice(0, context.length - spaces.length), spaces + continuation];
}

/** Windows as the harness rolls them: each token is scored once. */
function rollingRows(text: string, { tokenizer, beginning, positions }: Reader): TokenRow[] {
  const first = beginning ?? tokenizer.endOfText;
  const ids = [...first === undefined ? [] : [first], ...tokenizer.encode(text)];
  return [...windowsOnce(ids.length - 1, positions, positions)].map(({ start, length, from }) => ({
    ids: ids.slice(start, start + length + 1),
    scored: length - from,
  }));
}

function generatePrompt(
  text: string,
  { kind, stops, max_new_tokens: asked }: Extract<TaskRequest, { kind: "generate_until" }>,
  reader: Reader,
): Prompt {
  const { tokenizer, beginning, chat, positions } = reader;
  const wanted = reader.max_new_tokens ?? asked;
  // half of the model's positions are left to the context, however many tokens are asked for
  const max_new_tokens = Math.min(wanted, Math.max(1, Math.floor(positions / 2)));
  const start = beginning === undefined ? [] : [beginning];
  const { ids, context } = chat
    ? chatContext(chat, text, reader)
    : { ids: [...start, ...tokenizer.encode(text)], context: text };
  const first = beginning ?? tokenizer.endOfText;
  const all = ids.length === 0 && first !== undefined ? [first] : Array.from(ids);
  const kept = all.slice(-Math.max(1, positions - max_new_tokens));
  const stop_ids = chat ? endOfTurn(chat, tokenizer as Tokenizer) : [];
  const request = { context: kept, stops, stop_ids, max_new_tokens };
  return { kind, context, request, is_cut: kept.length < all.length };
}
