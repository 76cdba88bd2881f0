/**
 * The shapes in which data sets keep conversations, and how each becomes messages.
 *
 * @module
 */
import { didYouMean, UserError } from "../../io/errors.ts";
import type { Message } from "../../text/chat/mod.ts";
import { recordFault } from "../record.ts";
import { messagesOf, sharegptMessages, textIn, type TurnContext } from "./turns.ts";

/** The shapes that are known, the most telling first: a record of several is of the first. */
export const shapeNames = [
  "messages",
  "sharegpt",
  "prompt_completion",
  "alpaca",
  "instruction",
  "question_answer",
] as const;
export type ShapeName = typeof shapeNames[number];

/** What a shape's fields are called in the data, by their usual names. */
export type FieldMap = Readonly<Record<string, string>>;

interface Shape {
  /** The usual names of its fields; those with `?` may be absent. */
  readonly fields: readonly string[];
  /** Whether it is recognised where no shape is given. */
  readonly isRecognised: boolean;
  messages(record: Fields): Message[];
}

/** The fields of a record under their usual names. */
interface Fields extends TurnContext {
  /** The field's value; undefined where it is absent or null. */
  get(name: string): unknown;
  /** The field's text; an absent one is an error. */
  text(name: string): string;
}

const shapes: Record<ShapeName, Shape> = {
  messages: {
    fields: ["messages", "role?", "content?", "tools?"],
    isRecognised: true,
    messages: (record) => {
      requireNoTools(record);
      return messagesOf(record.get("messages"), "messages", record);
    },
  },
  sharegpt: {
    fields: ["conversations", "from?", "value?", "system?", "tools?"],
    isRecognised: true,
    messages: (record) => {
      requireNoTools(record);
      const turns = sharegptMessages(record.get("conversations"), "conversations", record);
      return [...systemOf(record), ...turns];
    },
  },
  prompt_completion: {
    fields: ["prompt", "completion", "system?", "role?", "content?"],
    isRecognised: true,
    messages: promptAndCompletion,
  },
  alpaca: {
    fields: ["instruction", "output", "input?", "system?"],
    isRecognised: true,
    messages: (record) => [
      ...systemOf(record),
      ...exchange(alpacaPrompt(record), record.text("output")),
    ],
  },
  instruction: {
    fields: ["instruction", "output", "input?", "system?"],
    isRecognised: false,
    messages: (record) => {
      const parts = [record.text("instruction"), optionalText(record, "input")];
      const prompt = parts.filter((part) => part !== "").join("\n\n");
      return [...systemOf(record), ...exchange(prompt, record.text("output"))];
    },
  },
  question_answer: {
    fields: ["question", "answer", "system?"],
    isRecognised: true,
    messages: (record) => [
      ...systemOf(record),
      ...exchange(record.text("question"), record.text("answer")),
    ],
  },
};

/** The shape of a record with these fields, if it is one that is recognised. */
export function shapeOf(names: readonly string[], map: FieldMap = {}): ShapeName | undefined {
  return shapeNames.find((name) =>
    shapes[name].isRecognised &&
    requiredFields(name).every((field) => names.includes(map[field] ?? field))
  );
}

/** What the data's fields are called that a shape reads; some may be absent. */
export function fieldsOf(shape: ShapeName, map: FieldMap = {}): string[] {
  return shapes[shape].fields.map((field) => plain(field)).map((field) => map[field] ?? field);
}

/**
 * An error for a map that names a field which the shape does not have; any shape's where none is
 * given.
 */
export function checkFieldMap(shape: ShapeName | undefined, map: FieldMap): void {
  const known = (shape === undefined ? shapeNames : [shape])
    .flatMap((name) => shapes[name].fields.map(plain));
  const names = [...new Set(known)];
  for (const name of Object.keys(map)) {
    if (names.includes(name)) continue;
    const of = shape === undefined ? "no shape has" : `the shape ${shape} does not have`;
    throw new UserError(`${of} a field "${name}"${didYouMean(name, names)}`, {
      where: "fields",
      hint: `left of the colon stands one of ${
        names.join(", ")
      }; right of it, its name in the data`,
    });
  }
}

/** How a record is read, and where it stands. */
export interface RecordContext {
  readonly shape: ShapeName;
  readonly fields: FieldMap;
  /** Fields of a turn that mean nothing here. */
  readonly ignore: readonly string[];
  readonly where: string;
}

/** A record's messages. */
export function messagesOfRecord(
  record: object,
  { shape, fields, ignore, where }: RecordContext,
): Message[] {
  const nameOf = (field: string) => fields[field] ?? field;
  const get = (field: string) => {
    const name = nameOf(field);
    return Object.hasOwn(record, name) ? Reflect.get(record, name) ?? undefined : undefined;
  };
  for (const field of requiredFields(shape)) {
    if (get(field) !== undefined) continue;
    const name = nameOf(field), names = Object.keys(record);
    throw recordFault(
      `there is no field "${name}"${didYouMean(name, names)}`,
      where,
      `records of the shape ${shape} have it: mend the record, name another shape or the fields`,
    );
  }
  const text = (field: string) => textIn(get(field), nameOf(field), where);
  return shapes[shape].messages({ get, text, names: fields, ignore, where });
}

function requiredFields(shape: ShapeName): string[] {
  return shapes[shape].fields.filter((field) => !field.endsWith("?"));
}

function plain(field: string): string {
  return field.replace("?", "");
}

function exchange(user: string, assistant: string): Message[] {
  return [{ role: "user", content: user }, { role: "assistant", content: assistant }];
}

/** A list of tools would have to be written into the prompt, and nothing here does. */
function requireNoTools(record: Fields): void {
  const tools = record.get("tools"), { ignore, where } = record;
  const isEmpty = tools === undefined || tools === "" ||
    (Array.isArray(tools) && tools.length === 0);
  if (isEmpty || ignore.includes("tools")) return;
  throw recordFault(
    'the field "tools" lists tools, which no template is told of',
    where,
    "write them into the system message and say ignore: [tools]",
  );
}

function systemOf(record: Fields): Message[] {
  const content = optionalText(record, "system");
  return content === "" ? [] : [{ role: "system", content }];
}

function optionalText(record: Fields, field: string): string {
  return record.get(field) === undefined ? "" : record.text(field);
}

/** The wording of Stanford's Alpaca. */
function alpacaPrompt(record: Fields): string {
  const input = optionalText(record, "input");
  const context = input === "" ? "" : ", paired with an input that provides further context";
  const sections = [
    `Below is an instruction that describes a task${context}. ` +
    "Write a response that appropriately completes the request.",
    `### Instruction:\n${record.text("instruction")}`,
    ...input === "" ? [] : [`### Input:\n${input}`],
    "### Response:",
  ];
  return sections.join("\n\n");
}

/** Both are texts, or both are messages; then only those of the completion are trained on. */
function promptAndCompletion(record: Fields): Message[] {
  const [prompt, completion] = [record.get("prompt"), record.get("completion")];
  if (!Array.isArray(prompt) && !Array.isArray(completion)) {
    return [...systemOf(record), ...exchange(record.text("prompt"), record.text("completion"))];
  }
  const before: Message[] = Array.isArray(prompt)
    ? messagesOf(prompt, "prompt", record)
    : [{ role: "user", content: record.text("prompt") }];
  const after: Message[] = Array.isArray(completion)
    ? messagesOf(completion, "completion", record)
    : [{ role: "assistant", content: record.text("completion") }];
  return [...systemOf(record), ...before.map((message) => ({ ...message, weight: 0 })), ...after];
}
