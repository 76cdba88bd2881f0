/** A tokenizer as llama.cpp's metadata have it: byte-level BPE, whose way of cutting text goes by a name. */

import { UserError } from "../io/errors.ts";
import type { GgufValue } from "../io/gguf.ts";
import { byteCharacters } from "../text/byte_alphabet.ts";
import { preTokenizerName } from "../text/pieces.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { tokenizerJson } from "./tokenizer.ts";

/** What llama.cpp's token types mean. */
const types = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/** `vocabSize`: the model's, which may have rows for no token. */
export function ggufTokenizer(
  tokenizer: Tokenizer,
  vocabSize: number,
): ReadonlyMap<string, GgufValue> {
  const json = tokenizerJson(tokenizer);
  const refuse = (what: string) =>
    new UserError(`llama.cpp has no tokenizer like the model's: ${what}`, {
      hint: "--to hf writes the model with its own tokenizer",
    });
  if (json === undefined) throw refuse("its ids stand for no text");
  const { model, added_tokens = [], pre_tokenizer } = JSON.parse(json);
  if (tokenizer.kind === "character") {
    const wide = Object.keys(model.vocab).find((character) => character > "\u007f");
    if (wide) throw refuse(`${JSON.stringify(wide)} is one token of several bytes, without merges`);
  }
  if (model.type !== "BPE" && model.type !== undefined) throw refuse(`it is ${model.type}`);
  const pre = tokenizer.kind === "huggingface" ? preTokenizerName(pre_tokenizer) : "gpt-2";
  if (pre === undefined) throw refuse("it cuts texts in a way that has no name there");
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(vocabSize).fill(types.unused);
  const put = (id: number, text: string, kind: number) => [tokens[id], kinds[id]] = [text, kind];
  const spelled = tokenizer.kind === "character" ? byteLevelText : (text: string) => text;
  for (const [text, id] of Object.entries<number>(model.vocab)) {
    put(id, spelled(text), types.normal);
  }
  for (const { id, content, special } of added_tokens) {
    put(id, content, special ? types.control : types.userDefined);
  }
  const merges: unknown[] = model.merges ?? [];
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: pre }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: kinds }],
    ["tokenizer.ggml.merges", {
      type: "strings",
      value: merges.map((merge) => Array.isArray(merge) ? merge.join(" ") : String(merge)),
    }],
  ]);
}

const byteLevelCharacters = [...byteCharacters.keys()];

/** An ASCII character as GPT-2's alphabet of bytes spells it. */
function byteLevelText(character: string): string {
  return byteLevelCharacters[character.charCodeAt(0)];
}

/** Its context beyond the tokens: the template of a conversation, and what begins and ends a text. */
export function ggufTexts(
  config: Readonly<Record<string, unknown>>,
  ids: { readonly begin: number | undefined; readonly end: number | undefined },
): ReadonlyMap<string, GgufValue> {
  const found = new Map<string, GgufValue>([
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: ids.begin !== undefined }],
    ["tokenizer.ggml.add_eos_token", { type: "bool", value: false }],
  ]);
  const id = (name: string, value: number | undefined) =>
    value === undefined || found.set(`tokenizer.ggml.${name}_token_id`, { type: "u32", value });
  id("bos", ids.begin ?? ids.end);
  id("eos", ids.end);
  id("padding", ids.end);
  const { chat_template: template } = config;
  if (typeof template === "string") {
    found.set("tokenizer.chat_template", { type: "string", value: template });
  }
  return found;
}
