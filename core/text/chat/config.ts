/**
 * `tokenizer_config.json`, in Hugging Face's form: it keeps a model's chat template.
 *
 * @module
 */
import { basename } from "node:path";
import { z } from "zod";
import { jsonFault, UserError } from "../../io/errors.ts";
import { endOfTextName, type Tokenizer } from "../tokenizer.ts";
import type { ChatTemplate, NamedTokens } from "./template.ts";

/** Its name in a run's or a model's folder. */
export const tokenizerConfigName = "tokenizer_config.json";

/** A token's name, alone or with how it is cut out of text. */
const token = z.union([z.string(), z.looseObject({ content: z.string() })])
  .transform((token) => typeof token === "string" ? token : token.content);
const namedTemplate = z.looseObject({ name: z.string(), template: z.string() });

/** What is read of the file. */
const configSchema = z.looseObject({
  chat_template: z.union([z.string(), z.array(namedTemplate)]).nullish(),
  bos_token: token.nullish(),
  eos_token: token.nullish(),
  pad_token: token.nullish(),
  unk_token: token.nullish(),
  added_tokens_decoder: z.record(
    z.string(),
    z.looseObject({ content: z.string(), special: z.boolean().default(false) }),
  ).default({}),
});
export type TokenizerConfig = z.output<typeof configSchema>;

/** The file's content; `where` names it in errors. */
export function parseTokenizerConfig(text: string, where: string): TokenizerConfig {
  return parseFile(configSchema, text, where);
}

const id = z.int().min(0);
const generationSchema = z.looseObject({ eos_token_id: z.union([id, z.array(id)]).nullish() });

/** The ids at which a `generation_config.json` ends answers. */
export function endIdsOf(text: string, where: string): number[] {
  const { eos_token_id } = parseFile(generationSchema, text, where);
  return eos_token_id == null ? [] : [eos_token_id].flat();
}

function parseFile<S extends z.ZodType>(schema: S, text: string, where: string): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(jsonFault(error), { where, cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  const field = path.length === 0 ? "" : `${path.join(".")}: `;
  throw new UserError(`not a ${basename(where)}: ${field}${message}`, { where });
}

/**
 * The tokens that the file names: those with a use, as a template's variables, and all that are
 * special.
 */
export function knownTokens(config: TokenizerConfig) {
  const { bos_token, eos_token, pad_token, unk_token } = config;
  const named: NamedTokens = Object.fromEntries(
    Object.entries({ bos_token, eos_token, pad_token, unk_token })
      .filter(([, value]) => typeof value === "string" && value !== ""),
  );
  const listed = Object.values(config.added_tokens_decoder)
    .flatMap(({ content, special }) => special ? [content] : []);
  return { named, special: [...new Set([...Object.values<string>({ ...named }), ...listed])] };
}

/** The file's text for a model that was tuned with a template: other programs read both from it. */
export function tokenizerConfigText(template: ChatTemplate, tokenizer: Tokenizer): string {
  const added = [...tokenizer.specialTokens].sort(([, a], [, b]) => a - b);
  const nameOf = (id: number | undefined) => added.find(([, other]) => other === id)?.[0] ?? null;
  const flags = { lstrip: false, normalized: false, rstrip: false, single_word: false };
  const { source, endTokens, namedTokens } = template;
  // a name that the template did not have would be written where it was not
  const free = (name: string, token: string | null) => source.includes(name) ? null : token;
  const eos_token = free("eos_token", endTokens[0] ?? nameOf(tokenizer.endOfText));
  const endOfText = tokenizer.specialTokens.get(endOfTextName) ?? tokenizer.endOfText;
  const config = {
    added_tokens_decoder: Object.fromEntries(
      added.map(([content, id]) => [id, { content, ...flags, special: true }]),
    ),
    bos_token: null,
    chat_template: source,
    clean_up_tokenization_spaces: false,
    eos_token,
    pad_token: free("pad_token", nameOf(endOfText) ?? endTokens[0] ?? null),
    tokenizer_class: "PreTrainedTokenizerFast",
    ...namedTokens,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
