/**
 * Tokenizers that get special tokens which they lack.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { parseTokenizer } from "./load.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * The tokenizer with all these special tokens. Those that it has keep their ids; new ones follow
 * its last id, in order. A name that is an ordinary token becomes a special one. Texts keep their
 * ids.
 */
export async function withSpecialTokens(
  tokenizer: Tokenizer,
  names: readonly string[],
): Promise<Tokenizer> {
  const missing = [...new Set(names)].filter((name) => !tokenizer.specialTokens.has(name));
  if (missing.length === 0) return tokenizer;
  if (tokenizer.kind === "ids") {
    throw new UserError(`a tokenizer of ids alone cannot get the special token ${missing[0]}`, {
      hint: "conversations need a model whose tokenizer knows text",
      exitCode: exitCodes.failed,
    });
  }
  const description: Record<string, unknown> = JSON.parse(tokenizer.file);
  const where = "tokenizer.json with special tokens";
  if (tokenizer.kind !== "huggingface") {
    const special_tokens = [...listOf(description.special_tokens), ...missing];
    return await parseTokenizer(`${JSON.stringify({ ...description, special_tokens })}\n`, where);
  }
  const known = idsOf(description);
  let next = tokenizer.vocabSize;
  const fresh = missing.map((content) => addedToken(content, known.get(content) ?? next++));
  const others = listOf(description.added_tokens)
    .filter((token) => !missing.includes(String(fieldOf(token, "content"))));
  const added_tokens = [...others, ...fresh]
    .sort((a, b) => Number(fieldOf(a, "id")) - Number(fieldOf(b, "id")));
  return await parseTokenizer(`${JSON.stringify({ ...description, added_tokens })}\n`, where);
}

function addedToken(content: string, id: number) {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, ...flags, special: true };
}

/** Ids of what the vocabulary and the added tokens hold already. */
function idsOf({ model, added_tokens }: Record<string, unknown>): ReadonlyMap<string, number> {
  const vocab = fieldOf(model, "vocab");
  const ordinary = Array.isArray(vocab)
    ? vocab.map(([content], id) => [String(content), id] as const)
    : Object.entries(vocab ?? {}).map(([content, id]) => [content, Number(id)] as const);
  const added = listOf(added_tokens)
    .map((token) => [String(fieldOf(token, "content")), Number(fieldOf(token, "id"))] as const);
  return new Map([...ordinary, ...added]);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}
