/**
 * Conversations from jsonl and parquet files, one at a time; every fault is named by file and line
 * or row.
 *
 * @module
 */
import { didYouMean, UserError } from "../../io/errors.ts";
import { readInput } from "../../io/input_file.ts";
import { decodeUtf8, splitLines } from "../../io/lines.ts";
import type { Message } from "../../text/chat/mod.ts";
import { formatOf } from "../documents.ts";
import { recordFault, recordOfLine } from "../record.ts";
import {
  checkFieldMap,
  type FieldMap,
  fieldsOf,
  messagesOfRecord,
  type ShapeName,
  shapeNames,
  shapeOf,
} from "./shapes.ts";

/** How files become conversations. */
export interface ConversationReading {
  /** By a file's name unless given: .parquet, all others jsonl. */
  readonly format?: "auto" | "jsonl" | "parquet" | undefined;
  /** "auto" goes by the fields of each file's first record. */
  readonly shape?: ShapeName | "auto" | undefined;
  /** What the shape's fields are called in the data. */
  readonly fields?: FieldMap | undefined;
  /**
   * Fields of a turn, or `tools` of a record, that mean nothing here; others that are not known are
   * errors.
   */
  readonly ignore?: readonly string[] | undefined;
  /** Put in front of conversations that have no system message. */
  readonly system?: string | undefined;
}

/** What the caller may watch. */
export interface ReadingEvents {
  /** What a file was recognised as. */
  onShape?(file: string, shape: ShapeName): void;
  /** Bytes that were read from disk. */
  onRead?(bytes: number): void;
}

/** A conversation, and the file and line or row that it is from. */
export interface Conversation {
  readonly messages: readonly Message[];
  readonly where: string;
}

/** A record whose reading may fail. */
interface Unread {
  read(): object;
  readonly where: string;
}

/** A conversation whose reading may fail, so that the caller decides what a failure means. */
export type ConversationAttempt = () => Conversation;

/**
 * The conversations of files, read in this order (`-` is standard input); one record, of parquet
 * one row group, is held at a time.
 */
export async function* conversationsOf(
  files: readonly string[],
  reading: ConversationReading = {},
  events: ReadingEvents = {},
): AsyncGenerator<ConversationAttempt> {
  const { shape = "auto", fields = {}, ignore = [], system } = reading;
  const given = shape === "auto" ? undefined : shape;
  checkFieldMap(given, fields);
  for (const file of files) {
    let found = given;
    const recognise = (names: readonly string[], where: string) => {
      if (found !== undefined) return found;
      found = shapeOf(names, fields) ?? unknownShape(names, where);
      requireUse(found, fields, where);
      events.onShape?.(file, found);
      return found;
    };
    const isParquet = formatOf(file, reading.format ?? "auto") === "parquet";
    const columns = (names: readonly string[]) => {
      const shape = recognise(names, file);
      return requireColumns(names, fieldsOf(shape, fields), file);
    };
    const records = isParquet
      ? readRowRecords(file, columns, events)
      : readLineRecords(file, events);
    for await (const { read, where } of records) {
      yield () => {
        const record = read();
        const shape = recognise(Object.keys(record), where);
        const messages = messagesOfRecord(record, { shape, fields, ignore, where });
        return { messages: withSystem(messages, system), where };
      };
    }
  }
}

/** The same without those that cannot be used: they end the reading, or are told and left out. */
export async function* readConversations(
  files: readonly string[],
  { onError = "stop", ...reading }: ConversationReading & { readonly onError?: "stop" | "skip" } =
    {},
  { onSkip, ...events }: ReadingEvents & { onSkip?(fault: UserError): void } = {},
): AsyncGenerator<Conversation> {
  for await (const attempt of conversationsOf(files, reading, events)) {
    try {
      yield attempt();
    } catch (error) {
      if (onError === "stop" || !(error instanceof UserError)) throw error;
      onSkip?.(error);
    }
  }
}

function withSystem(messages: readonly Message[], system: string | undefined): readonly Message[] {
  if (system === undefined || messages.some(({ role }) => role === "system")) return messages;
  return [{ role: "system", content: system }, ...messages];
}

/** A map of which a recognised shape reads nothing was meant for other data. */
function requireUse(shape: ShapeName, fields: FieldMap, where: string): void {
  const given = Object.keys(fields), known = fieldsOf(shape);
  if (given.length === 0 || given.some((name) => known.includes(name))) return;
  throw new UserError(`the record is read as ${shape}, which has no field ${given.join(" or ")}`, {
    where,
    hint: `leave fields out, say shape, or give such files as a source of their own`,
  });
}

function unknownShape(names: readonly string[], where: string): never {
  const shown = names.slice(0, 12).join(", ");
  throw recordFault(
    `no conversation is recognised in the fields ${shown}${names.length > 12 ? ", …" : ""}`,
    where,
    `say the shape (${shapeNames.join(", ")}) and what its fields are called`,
  );
}

/** The columns that are there; those that a shape needs and lacks are named when a row is read. */
function requireColumns(
  names: readonly string[],
  wanted: readonly string[],
  where: string,
): string[] {
  const columns = wanted.filter((name) => names.includes(name));
  if (columns.length > 0) return columns;
  throw new UserError(`there is no column "${wanted[0]}"${didYouMean(wanted[0], names)}`, {
    where,
    hint: `the columns are ${names.join(", ")}`,
  });
}

async function* readLineRecords(
  file: string,
  { onRead }: ReadingEvents,
): AsyncGenerator<Unread> {
  for await (const { number, offset, bytes } of splitLines(readInput(file, onRead))) {
    if (bytes.length === 0) continue;
    const where = `${file}:${number}`;
    const read = () => recordOfLine(decodeUtf8(bytes, { file, line: number, offset }), where);
    yield { read, where };
  }
}

async function* readRowRecords(
  file: string,
  columns: (names: readonly string[]) => string[],
  { onRead = () => {} }: ReadingEvents,
): AsyncGenerator<Unread> {
  const { decodeField, readRows } = await import("../read_parquet.ts");
  for await (const { first, rows } of readRows(file, columns, onRead)) {
    for (const [i, row] of rows.entries()) {
      const where = `${file}:row ${first + i}`;
      const decode = (value: unknown, field: string): unknown => {
        if (value instanceof Uint8Array) return decodeField(value, field, where);
        if (Array.isArray(value)) return value.map((item, i) => decode(item, `${field}[${i}]`));
        if (typeof value !== "object" || value === null) return value;
        return Object.fromEntries(
          Object.entries(value).map(([name, item]) => [name, decode(item, `${field}.${name}`)]),
        );
      };
      const read = () =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, decode(value, name)]));
      yield { read, where };
    }
  }
}
