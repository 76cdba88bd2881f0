/**
 * Messages of a conversation.
 *
 * @module
 */
import { didYouMean, exitCodes, UserError } from "../../io/errors.ts";

/** Who speaks. */
export const roles = ["system", "developer", "user", "assistant", "tool"] as const;
export type Role = typeof roles[number];

/** One turn. */
export interface Message {
  readonly role: Role;
  readonly content: string;
  /** The loss weight of an assistant's message, 0 or more; 0 is not trained on. */
  readonly weight?: number | undefined;
  /** What else a template may read, as `reasoning_content` or `tool_calls`. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

/** The role that a name stands for. */
export function roleOf(name: string): Role {
  const role = roles.find((role) => role === name);
  if (role !== undefined) return role;
  throw chatFault(
    `there is no role ${JSON.stringify(name)}${didYouMean(name, [...roles])}`,
    `a role is one of ${roles.join(", ")}`,
  );
}

/** What a message says of its loss: its weight, if it is an assistant's; all others have none. */
export function lossWeightOf({ role, weight }: Message, index: number): number {
  if (weight === undefined) return role === "assistant" ? 1 : 0;
  if (!Number.isFinite(weight) || weight < 0) {
    throw chatFault(`messages[${index}].weight is ${weight}`, "a weight is a number from 0 on");
  }
  if (role === "assistant" || weight === 0) return weight;
  throw chatFault(
    `messages[${index}].weight is ${weight}, but it is the ${role}'s`,
    "loss is on what the assistant says: leave the weight out",
  );
}

/** A conversation that cannot be used; whoever knows its place adds it. */
export function chatFault(message: string, hint: string): UserError {
  return new UserError(message, { hint, exitCode: exitCodes.failed });
}
