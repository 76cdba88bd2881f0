/**
 * Encoded conversations as text, so that a test shows what is trained on.
 *
 * @module
 */
import {
  type ChatTemplate,
  type ConversationOptions,
  encodeConversation,
  type Message,
} from "../../../../core/text/chat/mod.ts";
import type { Tokenizer } from "../../../../core/text/tokenizer.ts";

/** A conversation from alternating turns, `system:` and the like in front of each. */
export function talk(...turns: string[]): Message[] {
  return turns.map((turn) => {
    const [, role, content] = turn.match(/^(\w+):(.*)$/s)!;
    return { role: role as Message["role"], content };
  });
}

/** The text of the ids, special tokens by name, `⟦…⟧` around what is trained on. */
export function marked(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  messages: readonly Message[],
  options: ConversationOptions = {},
): string {
  const { ids, weights } = encodeConversation(template, tokenizer, messages, options);
  const names = new Map([...tokenizer.specialTokens].map(([name, id]) => [id, name]));
  let text = "", run: number[] = [];
  const flush = () => {
    text += tokenizer.decode(run);
    run = [];
  };
  ids.forEach((id, i) => {
    const isTrained = weights[i] > 0, wasTrained = i > 0 && weights[i - 1] > 0;
    if (isTrained !== wasTrained) {
      flush();
      text += isTrained ? "⟦" : "⟧";
    }
    if (names.has(id)) {
      flush();
      text += names.get(id);
    } else run.push(id);
  });
  flush();
  return weights.at(-1)! > 0 ? `${text}⟧` : text;
}
