/** What a config may say of how its files become conversations. */

import { z } from "zod";
import { shapeNames } from "./shapes.ts";

const name = z.string().min(1);

/** For a strict schema to spread; what is left out is found. */
export const readingFields = {
  /** auto goes by the fields of each file's first record. */
  shape: z.enum(["auto", ...shapeNames]).default("auto"),
  /** What the shape's fields are called in the data: `{question: problem, answer: solution}`. */
  fields: z.record(name, name).default({}),
  /**
   * Fields of a turn, or `tools` of a record, that mean nothing here; others that are not known are
   * errors.
   */
  ignore: z.array(name).default([]),
  /** A system message for conversations that have none. */
  system: z.string().min(1).optional(),
};
