/** What a task's file says of a document's choices and of the right one. */

import { exitCodes, UserError } from "../../io/errors.ts";
import type { TaskConfigOf } from "./schema.ts";
import type { Doc } from "../types.ts";
import { render, valueOf } from "./template.ts";

/** A field that is a list of texts, or a text for each template. */
export function textList(template: string | readonly string[], doc: Doc): readonly string[] {
  if (typeof template !== "string") return template.map((each) => render(each, doc));
  const value = valueOf(template, doc);
  if (Array.isArray(value) && value.length > 0 && value.every((v) => typeof v === "string")) {
    return value;
  }
  throw failed(`${template} is not a list of texts`);
}

type Target = TaskConfigOf<"multiple_choice">["doc_to_target"];

/** The right choice's place among `count`. */
export function intField(target: Target, doc: Doc, count: number): number {
  const index = typeof target === "object"
    ? placeAmong(target, doc)
    : typeof target === "number"
    ? target
    : numberOf(target, doc);
  if (index < count) return index;
  throw failed(`the right choice is number ${index + 1}, but there are ${count}`);
}

function placeAmong({ value, among }: Extract<Target, object>, doc: Doc): number {
  const wanted = render(value, doc), labels = textList(among, doc), place = labels.indexOf(wanted);
  if (place >= 0) return place;
  throw failed(`the right choice is "${wanted}", but there are ${labels.join(", ")}`);
}

function numberOf(target: string, doc: Doc): number {
  const value = valueOf(target, doc);
  if (typeof value === "boolean") return Number(value); // parquet's own type of a yes or no
  const index = typeof value === "bigint" || typeof value === "string" ? Number(value) : value;
  if (typeof index === "number" && Number.isInteger(index) && index >= 0 && value !== "") {
    return index;
  }
  throw failed(`${target} is ${JSON.stringify(String(value))}, not the place of a choice`);
}

function failed(message: string): UserError {
  return new UserError(message, { exitCode: exitCodes.failed });
}
