/**
 * The turns of a record that holds them in a list, as messages.
 *
 * @module
 */
import { didYouMean } from "../../io/errors.ts";
import { type Message, type Role, roles } from "../../text/chat/mod.ts";
import { recordFault } from "../record.ts";

/** Where turns stand, what their fields are called if not as usual, and which mean nothing. */
export interface TurnContext {
  readonly names: Readonly<Record<string, string>>;
  readonly ignore: readonly string[];
  readonly where: string;
}

/** What a turn may hold besides its role, its content and its weight; templates read it. */
const extraFields = ["name", "reasoning_content", "thinking", "tool_calls", "tool_call_id"];

/** Who speaks in ShareGPT's records. */
const sharegptRoles: Readonly<Record<string, Role>> = {
  human: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bing: "assistant",
  bard: "assistant",
  function_response: "tool",
  observation: "tool",
};

/** Turns with a role and a content. */
export function messagesOf(turns: unknown, field: string, context: TurnContext): Message[] {
  return readTurns(turns, field, context, { role: "role", content: "content", roles: {} });
}

/** Turns with a `from` and a `value`; those that have a role and a content are read, too. */
export function sharegptMessages(turns: unknown, field: string, context: TurnContext): Message[] {
  const first: unknown = Array.isArray(turns) ? turns[0] : undefined;
  const isOther = typeof first === "object" && first !== null && "role" in first &&
    !("from" in first);
  if (isOther) return messagesOf(turns, field, context);
  return readTurns(turns, field, context, { role: "from", content: "value", roles: sharegptRoles });
}

interface TurnShape {
  readonly role: string;
  readonly content: string;
  /** Other names of roles. */
  readonly roles: Readonly<Record<string, Role>>;
}

function readTurns(
  turns: unknown,
  field: string,
  context: TurnContext,
  shape: TurnShape,
): Message[] {
  if (!Array.isArray(turns)) throw recordFault(`the field "${field}" is not a list`, context.where);
  if (turns.length === 0) throw recordFault(`the field "${field}" is empty`, context.where);
  return turns.map((turn, i) => readTurn(turn, `${field}[${i}]`, context, shape));
}

function readTurn(
  turn: unknown,
  at: string,
  { names, ignore, where }: TurnContext,
  shape: TurnShape,
): Message {
  if (typeof turn !== "object" || turn === null || Array.isArray(turn)) {
    throw recordFault(`${at} is not an object`, where);
  }
  const fields = new Map(
    Object.entries(turn).filter(([, value]) => value !== null && value !== undefined),
  );
  const [roleName, contentName] = [shape.role, shape.content].map((name) => names[name] ?? name);
  const known = [roleName, contentName, "weight", "train", ...extraFields];
  for (const name of fields.keys()) {
    if (known.includes(name) || ignore.includes(name)) continue;
    throw recordFault(
      `${at} has an unknown field "${name}"${didYouMean(name, known)}`,
      where,
      `a turn has ${known.join(", ")}: say that others are to be ignored, or mend the record`,
    );
  }
  const role = roleIn(fields.get(roleName), `${at}.${roleName}`, where, shape.roles);
  const extra = Object.fromEntries(
    extraFields.flatMap((name) => fields.has(name) ? [[name, fields.get(name)]] : []),
  );
  const content = fields.get(contentName) ?? (fields.has("tool_calls") ? "" : undefined);
  return {
    role,
    content: contentText(content, `${at}.${contentName}`, where),
    ...weightIn(fields, at, where),
    ...Object.keys(extra).length === 0 ? {} : { extra },
  };
}

function roleIn(
  value: unknown,
  at: string,
  where: string,
  others: Readonly<Record<string, Role>>,
): Role {
  const name = textIn(value, at, where);
  const role = roles.find((role) => role === name) ?? others[name];
  if (role !== undefined) return role;
  const known = [...Object.keys(others), ...roles];
  throw recordFault(
    `${at} is ${JSON.stringify(name)}${didYouMean(name, known)}`,
    where,
    `it is one of ${known.join(", ")}: mend it`,
  );
}

/** A text, or a list of parts that are texts. */
function contentText(value: unknown, at: string, where: string): string {
  if (!Array.isArray(value)) return textIn(value, at, where);
  return value.map((part: unknown, i) => {
    const isText = typeof part === "object" && part !== null && "text" in part &&
      (!("type" in part) || part.type === "text");
    if (isText) return textIn(part.text, `${at}[${i}].text`, where);
    throw recordFault(`${at}[${i}] is no text: a model here reads text alone`, where);
  }).join("");
}

/** `weight: 0.5`, or `train: false`. */
function weightIn(fields: ReadonlyMap<string, unknown>, at: string, where: string) {
  const given = fields.get("weight"), train = fields.get("train");
  if (train !== undefined && typeof train !== "boolean") {
    throw recordFault(`${at}.train is neither true nor false`, where);
  }
  if (given === undefined) return train === undefined ? {} : { weight: train ? 1 : 0 };
  if (train !== undefined) throw recordFault(`${at} has both weight and train`, where);
  const weight = typeof given === "bigint" ? Number(given) : given; // as parquet's whole numbers come
  if (typeof weight === "number" && weight >= 0 && Number.isFinite(weight)) return { weight };
  throw recordFault(`${at}.weight is no number from 0 on`, where);
}

/** A text that is one, and not half a character. */
export function textIn(value: unknown, at: string, where: string): string {
  if (value === undefined) throw recordFault(`there is no ${at}`, where);
  if (typeof value !== "string") throw recordFault(`${at} is not text`, where);
  if (!value.isWellFormed()) throw recordFault(`${at} holds half a surrogate pair`, where);
  return value;
}
