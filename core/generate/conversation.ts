/** Conversations as turns: what is said first of all, then each message of the user with what answers it. */

import type { Message } from "../text/chat/mod.ts";

export interface Conversation {
  /** What stands before the first turn: the system's message, if there is one. */
  readonly head: readonly Message[];
  /** Each begins with a user's message. */
  readonly turns: readonly (readonly Message[])[];
}

export const emptyConversation: Conversation = { head: [], turns: [] };

export function conversationOf(messages: readonly Message[]): Conversation {
  const starts = messages.flatMap(({ role }, i) => role === "user" ? [i] : []);
  return {
    head: messages.slice(0, starts[0] ?? messages.length),
    turns: starts.map((start, i) => messages.slice(start, starts[i + 1])),
  };
}

export function messagesOf({ head, turns }: Conversation): Message[] {
  return [...head, ...turns.flat()];
}

/** Without its oldest turns. */
export function withoutOldest({ head, turns }: Conversation, count: number): Conversation {
  return { head, turns: turns.slice(count) };
}

export function withoutLast({ head, turns }: Conversation): Conversation {
  return { head, turns: turns.slice(0, -1) };
}

export function withTurn({ head, turns }: Conversation, turn: readonly Message[]): Conversation {
  return { head, turns: [...turns, turn] };
}

/** Up to the message that is to be answered. */
export function withoutAnswer(conversation: Conversation): Conversation {
  const turn = conversation.turns.at(-1) ?? [];
  const end = turn.findLastIndex(({ role }) => role !== "assistant") + 1;
  return withTurn(withoutLast(conversation), turn.slice(0, end));
}

/** With an answer to its last turn, in the place of the one that it has. */
export function withAnswer(conversation: Conversation, content: string): Conversation {
  const { head, turns } = withoutAnswer(conversation), turn = turns.at(-1) ?? [];
  return withTurn(withoutLast({ head, turns }), [...turn, { role: "assistant", content }]);
}

/** The system's message; undefined where there is none. */
export function systemOf({ head }: Conversation): string | undefined {
  return head.find(({ role }) => role === "system")?.content;
}

/** Begins with this message of the system, or with none. */
export function withSystem({ turns }: Conversation, content: string | undefined): Conversation {
  return { head: content === undefined ? [] : [{ role: "system", content }], turns };
}
