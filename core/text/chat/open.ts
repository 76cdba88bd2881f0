/**
 * Chat templates by their names and from files.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { exists } from "../../io/atomic.ts";
import { didYouMean, messageOf, UserError } from "../../io/errors.ts";
import { chatml } from "./chatml.ts";
import {
  endIdsOf,
  knownTokens,
  parseTokenizerConfig,
  type TokenizerConfig,
  tokenizerConfigName,
} from "./config.ts";
import type { ChatTemplate } from "./template.ts";

/** What a template is told besides its file. */
export interface ChatTemplateOptions {
  /**
   * Values of the template's own variables, such as `enable_thinking: false`; they stay with the
   * template.
   */
  readonly variables?: Readonly<Record<string, boolean | number | string>>;
  /** Names of special tokens, where the template's file does not say that they are such. */
  readonly specialTokens?: readonly string[];
  /** What a template that writes the date takes for it; the real one unless given. */
  readonly today?: Date;
}

/**
 * The template of a name (`chatml`) or of a file: a Jinja file, a `tokenizer_config.json`, or the
 * folder of one, as of a run or a model. `file#name` is one of several that a file holds.
 */
export async function openChatTemplate(
  nameOrPath: string,
  options: ChatTemplateOptions = {},
): Promise<ChatTemplate> {
  const template = nameOrPath === chatml.name
    ? chatml
    : await findChatTemplate(nameOrPath, options);
  if (template === undefined) {
    throw new UserError("there is no chat template here", {
      where: nameOrPath,
      hint: `give chatml, a Jinja file, or a ${tokenizerConfigName} with a chat_template`,
    });
  }
  const [unused] = template === chatml ? Object.keys(options.variables ?? {}) : [];
  if (unused === undefined) return template;
  throw new UserError(`ChatML has no variable ${unused}`, { hint: "leave it out" });
}

/** The template that a run's or a model's folder keeps, if it keeps one; or that of a file. */
export async function findChatTemplate(
  path: string,
  options: ChatTemplateOptions = {},
): Promise<ChatTemplate | undefined> {
  const [file, name] = await exists(path) ? [path] : path.split(/#(?=[^#]*$)/);
  const isFolder = (await Deno.stat(file).catch(() => undefined))?.isDirectory ?? false;
  const folder = isFolder ? file : dirname(file);
  const files = isFolder ? [join(file, jinjaName), join(file, tokenizerConfigName)] : [file];
  for (const file of files) {
    if (isFolder && !await exists(file)) continue;
    const text = await readText(file);
    const isConfig = /\.json$/i.test(file);
    const source = isConfig ? chosen(parseTokenizerConfig(text, file), name, file) : text;
    if (source !== undefined) return await templateOf(source, file, folder, options);
  }
  return undefined;
}

/** Where newer models keep their template. */
const jinjaName = "chat_template.jinja";

async function templateOf(
  source: string,
  file: string,
  folder: string,
  { variables = {}, specialTokens = [], today }: ChatTemplateOptions,
): Promise<ChatTemplate> {
  if (source === chatml.source) return chatml;
  const { jinjaTemplate } = await import("./jinja.ts");
  const config = await readConfig(folder);
  const { named, special } = knownTokens(config);
  return jinjaTemplate(withVariables(source, variables), {
    name: file,
    namedTokens: named,
    specialTokens: [...special, ...specialTokens],
    endTokens: await furtherEnds(folder, config),
    ...today === undefined ? {} : { today },
  });
}

/** The `tokenizer_config.json` of a folder; nothing where there is none. */
async function readConfig(folder: string): Promise<TokenizerConfig> {
  const file = join(folder, tokenizerConfigName);
  return parseTokenizerConfig(await exists(file) ? await readText(file) : "{}", file);
}

/** Where models say at which ids their answers end. */
const generationConfigName = "generation_config.json";

/** The names of those ids. */
async function furtherEnds(folder: string, config: TokenizerConfig): Promise<string[]> {
  const file = join(folder, generationConfigName);
  if (!await exists(file)) return [];
  const ids = endIdsOf(await readText(file), file);
  return ids.flatMap((id) => config.added_tokens_decoder[id]?.content ?? []);
}

/** Set at the start of the source, so that whoever reads it later has the same values. */
function withVariables(source: string, variables: ChatTemplateOptions["variables"] = {}): string {
  const lines = Object.entries(variables).map(([name, value]) => {
    if (!/^[A-Za-z_]\w*$/.test(name)) throw new UserError(`${name} cannot be a variable's name`);
    return `{%- set ${name} = ${JSON.stringify(value)} %}\n`;
  });
  return lines.join("") + source;
}

/** The template of a name among several, or the usual one. */
function chosen(
  { chat_template }: TokenizerConfig,
  name: string | undefined,
  where: string,
): string | undefined {
  if (chat_template == null) return undefined;
  const templates = typeof chat_template === "string"
    ? [{ name: "default", template: chat_template }]
    : chat_template;
  const found = templates.find((template) => template.name === (name ?? "default"));
  if (found !== undefined) return found.template;
  const names = templates.map(({ name }) => name);
  throw new UserError(
    `there is no chat template ${name ?? "default"}${didYouMean(name ?? "", names)}`,
    {
      where,
      hint: `name one: ${names.map((name) => `${where}#${name}`).join(", ")}`,
    },
  );
}

async function readText(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    const isMissing = error instanceof Deno.errors.NotFound;
    const missing = `there is no such chat template${didYouMean(file, [chatml.name])}`;
    throw new UserError(isMissing ? missing : messageOf(error), {
      where: file,
      hint: `give chatml, a Jinja file, or a ${tokenizerConfigName}`,
      cause: error,
    });
  }
}
