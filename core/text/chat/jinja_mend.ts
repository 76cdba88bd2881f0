/**
 * Programs of @huggingface/jinja's changed where the library would run them otherwise than Python's
 * Jinja does.
 *
 * @module
 */
import { UserError } from "../../io/errors.ts";

/** A node of the library's syntax tree. */
interface Node {
  type: string;
  [field: string]: unknown;
}

/**
 * Functions that a mended program calls. Python's names cannot begin so: no template can mean
 * these.
 */
export const mendNames = {
  strip: "0strip",
  equal: "0equal",
  unequal: "0unequal",
  forget: "0forget",
};

/** Changes a node whose inner ones are changed already. */
export function mendNode(node: Node, where: string): void {
  if (node.type === "For") mendLoop(node, where);
  mendStrip(node);
  mendEquals(node);
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

/** All nodes, the inner ones first. */
export function visitNodes(value: unknown, see: (node: Node) => void): void {
  if (value instanceof Map) {
    for (const entry of value) visitNodes(entry, see);
  } else if (Array.isArray(value)) {
    for (const item of value) visitNodes(item, see);
  } else if (isNode(value)) {
    for (const child of Object.values(value)) visitNodes(child, see);
    see(value);
  }
}

const identifier = (value: string) => ({ type: "Identifier", value });
const text = (value: string) => ({ type: "StringLiteral", value });

/** Turns a node into the call of a function. */
function becomeCall(node: Node, name: string, args: unknown[]): void {
  Object.assign(node, { type: "CallExpression", callee: identifier(name), args });
}

const sides = { strip: "both", lstrip: "left", rstrip: "right" } as const;

/** `x.strip(…)` and `x | trim`. */
function mendStrip(node: Node): void {
  const { callee, filter } = node;
  if (node.type === "CallExpression" && isNode(callee) && callee.type === "MemberExpression") {
    const { object, property, computed } = callee;
    if (computed || !isNode(property)) return;
    const side = Object.entries(sides).find(([name]) => name === property.value)?.[1];
    if (side !== undefined) {
      becomeCall(node, mendNames.strip, [text(side), object, ...listOf(node.args)]);
    }
  }
  if (node.type === "FilterExpression" && isNode(filter)) {
    const { operand } = node, named = isNode(filter.callee) ? filter.callee : filter;
    if (named.value === "trim") {
      becomeCall(node, mendNames.strip, [text("both"), operand, ...listOf(filter.args)]);
    }
  }
}

/** `a == b` and `a != b`. */
function mendEquals(node: Node): void {
  if (node.type !== "BinaryExpression" || !isNode(node.operator)) return;
  const name = { "==": mendNames.equal, "!=": mendNames.unequal }[String(node.operator.value)];
  if (name !== undefined) becomeCall(node, name, [node.left, node.right]);
}

/**
 * A turn begins without what the last one set, and what it wrote before a `break` or `continue` may
 * not be lost.
 */
function mendLoop(node: Node, where: string): void {
  const body = listOf(node.body);
  const found = lossyJump(body);
  if (found !== undefined) {
    throw new UserError(
      `its {% ${found} %} stands behind text of the same turn, which would be lost`,
      {
        where,
        hint: "put that text into an if and else instead",
      },
    );
  }
  const set = new Set<string>();
  for (const statement of body) namesSet(statement, set);
  const itself = new Set<string>();
  namesIn(node.loopvar, itself);
  for (const name of itself) set.delete(name);
  if (set.size === 0) return;
  const forget = {
    type: "CallExpression",
    callee: identifier(mendNames.forget),
    args: [...set].map(text),
  };
  node.body = [forget, ...body];
}

/** The names that statements set in the scope of the loop that they stand in. */
function namesSet(node: unknown, found: Set<string>): void {
  if (Array.isArray(node)) { for (const item of node) namesSet(item, found); }
  if (!isNode(node)) return;
  const { type, assignee } = node;
  if (type === "Set") namesIn(assignee, found);
  if (type === "If") namesSet([node.body, node.alternate], found);
}

/** The names in what is assigned to; a field of a namespace is none. */
function namesIn(target: unknown, found: Set<string>): void {
  if (!isNode(target)) return;
  if (target.type === "Identifier") found.add(String(target.value));
  if (target.type === "TupleLiteral") {
    for (const item of listOf(target.value)) namesIn(item, found);
  }
}

/** A jump out of a turn with text before it; `wrote` says whether there is some. */
function lossyJump(
  statements: readonly unknown[],
  wrote = false,
): "break" | "continue" | undefined {
  for (const node of statements) {
    if (!isNode(node)) continue;
    if (node.type === "Break" || node.type === "Continue") {
      return wrote ? node.type === "Break" ? "break" : "continue" : undefined;
    }
    if (node.type === "If") {
      const branches = [listOf(node.body), listOf(node.alternate)];
      for (const branch of branches) {
        const found = lossyJump(branch, wrote);
        if (found !== undefined) return found;
      }
      wrote ||= branches.some(writes);
    } else wrote ||= writes([node]);
  }
  return undefined;
}

/** Whether statements may write something. */
function writes(statements: readonly unknown[]): boolean {
  const silent = ["Set", "Macro", "Comment", "Break", "Continue"];
  return statements.some((node) => {
    if (!isNode(node) || silent.includes(node.type)) return false;
    if (node.type === "If" || node.type === "For") {
      return writes([
        ...listOf(node.body),
        ...listOf(node.alternate),
        ...listOf(node.defaultBlock),
      ]);
    }
    const callee = node.callee;
    return !(isNode(callee) &&
      (callee.value === mendNames.forget || callee.value === "raise_exception"));
  });
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
