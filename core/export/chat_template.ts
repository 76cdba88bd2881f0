/** A run's chat template as other programs need it. */

import { UserError } from "../io/errors.ts";
import type { OpenedModel } from "../open/mod.ts";
import { type ChatTemplate, encodePrompt, findChatTemplate } from "../text/chat/mod.ts";
import { specialName } from "./tokenizer.ts";

/**
 * The field `chat_template`. Here a conversation begins with the token that begins each document;
 * other programs begin it with what the template writes, so the template is made to write it.
 */
export async function templateField(
  { folder, tokenizer, beginning }: OpenedModel,
): Promise<{ readonly chat_template?: string }> {
  const template = await findChatTemplate(folder), name = specialName(tokenizer, beginning);
  if (template === undefined) return {};
  if (name === null || first(template) === beginning) return { chat_template: template.source };
  return { chat_template: `{{ ${JSON.stringify(name)} }}${template.source}` };

  function first(template: ChatTemplate): number | undefined {
    try {
      return encodePrompt(template, tokenizer, [{ role: "user", content: "?" }])[0];
    } catch (error) {
      if (error instanceof UserError) return undefined; // it wants other messages
      throw error;
    }
  }
}
