/**
 * Chat templates by their names and from files.
 *
 * @module
 */
import { join } from "node:path";
import { exists } from "../../io/atomic.ts";
import { messageOf, UserError } from "../../io/errors.ts";
import { chatml } from "./chatml.ts";
import { parseTokenizerConfig, tokenizerConfigName } from "./config.ts";
import type { ChatTemplate } from "./template.ts";

/**
 * The template of a name (`chatml`), of a `tokenizer_config.json`, or of the one in a folder; a folder
 * without one has none.
 */
export async function openChatTemplate(nameOrPath: string): Promise<ChatTemplate> {
  if (nameOrPath === chatml.name) return chatml;
  const template = await findChatTemplate(nameOrPath);
  if (template !== undefined) return template;
  throw new UserError("there is no chat template here", {
    where: nameOrPath,
    hint: `give chatml, or a ${tokenizerConfigName} with a chat_template`,
  });
}

/** The template that a run's or a model's folder keeps, if it keeps one. */
export async function findChatTemplate(path: string): Promise<ChatTemplate | undefined> {
  const found = await Deno.stat(path).catch(() => undefined); // reading it says what is wrong
  const file = found?.isDirectory ? join(path, tokenizerConfigName) : path;
  if (found?.isDirectory && !await exists(file)) return undefined;
  const { chat_template } = parseTokenizerConfig(await readText(file), file);
  if (chat_template == null) return undefined;
  if (chat_template === chatml.source) return chatml;
  throw new UserError("its chat template is not ChatML, the only one that is known", {
    where: file,
  });
}

async function readText(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    const missing = "there is no such chat template; give chatml or a file";
    const isMissing = error instanceof Deno.errors.NotFound;
    throw new UserError(isMissing ? missing : messageOf(error), { where: file, cause: error });
  }
}
