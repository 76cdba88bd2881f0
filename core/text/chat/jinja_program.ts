/**
 * Jinja programs, run by @huggingface/jinja, with what that library does otherwise than Python's Jinja put right:
 * `strip` and its like take the characters to strip, `==` compares types and lists, what a turn of a loop sets is
 * forgotten in the next, and a source may have CRLF. What cannot be put right is refused.
 *
 * @module
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { messageOf, UserError } from "../../io/errors.ts";

/** Renders a program with these variables. */
export type JinjaProgram = (variables: Readonly<Record<string, unknown>>) => string;

/** A node of the library's syntax tree. */
interface Node {
  type: string;
  [field: string]: unknown;
}

/** The program of a source, and the texts that are written in it; `where` names the file in errors. */
export function jinjaProgram(
  source: string,
  where: string,
): { readonly run: JinjaProgram; readonly literals: readonly string[] } {
  const { parsed } = parse(source.replaceAll(/\r\n?/g, "\n"), where);
  const literals: string[] = [];
  visit(parsed, (node) => {
    if (node.type === "StringLiteral") literals.push(String(node.value));
    if (node.type === "For") mendLoop(node, where);
    mendStrip(node);
    mendEquals(node);
  });
  return { run: (variables) => evaluate(parsed, variables), literals };
}

function parse(source: string, where: string): Template {
  try {
    return new Template(source);
  } catch (error) {
    throw new UserError(`this chat template cannot be read: ${messageOf(error)}`, {
      where,
      hint: "it is written in Jinja, as in Hugging Face's tokenizer_config.json",
      cause: error,
    });
  }
}

/** As the library's own `render` does it, but with functions that see the scope that they are called in. */
function evaluate(parsed: Template["parsed"], variables: Readonly<Record<string, unknown>>) {
  const environment = new Environment();
  const globals = {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    ...variables,
    range,
    raise_exception: (message: unknown) => {
      throw new Error(String(message));
    },
    [names.strip]: strip,
  };
  for (const [name, value] of Object.entries(globals)) {
    if (value !== undefined) environment.set(name, value);
  }
  // a function that is set as it is gets neither the types of its arguments nor the scope that it is called in
  const [nothing, yes, no] = ["none", "true", "false"].map((name) =>
    environment.lookupVariable(name)
  );
  const define = (
    name: string,
    call: (args: readonly Value[], scope: Environment) => typeof nothing,
  ) => {
    environment.set(name, () => null).value = call;
  };
  define(names.equal, ([left, right]) => isEqual(left, right) ? yes : no);
  define(names.unequal, ([left, right]) => isEqual(left, right) ? no : yes);
  define(names.forget, (args, scope) => {
    for (const { value } of args) scope.variables.delete(String(value));
    return nothing;
  });
  return String(new Interpreter(environment).run(parsed).value);
}

/** Python's names cannot begin so: no template can mean these. */
const names = { strip: "0strip", equal: "0equal", unequal: "0unequal", forget: "0forget" };

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

/** All nodes, the inner ones first. */
function visit(value: unknown, see: (node: Node) => void): void {
  if (value instanceof Map) {
    for (const entry of value) visit(entry, see);
  } else if (Array.isArray(value)) {
    for (const item of value) visit(item, see);
  } else if (isNode(value)) {
    for (const child of Object.values(value)) visit(child, see);
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
      becomeCall(node, names.strip, [text(side), object, ...listOf(node.args)]);
    }
  }
  if (node.type === "FilterExpression" && isNode(filter)) {
    const { operand } = node, named = isNode(filter.callee) ? filter.callee : filter;
    if (named.value === "trim") {
      becomeCall(node, names.strip, [text("both"), operand, ...listOf(filter.args)]);
    }
  }
}

/** `a == b` and `a != b`. */
function mendEquals(node: Node): void {
  if (node.type !== "BinaryExpression" || !isNode(node.operator)) return;
  const name = { "==": names.equal, "!=": names.unequal }[String(node.operator.value)];
  if (name !== undefined) becomeCall(node, name, [node.left, node.right]);
}

/** A turn begins without what the last one set, and what it wrote before a `break` or `continue` may not be lost. */
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
    callee: identifier(names.forget),
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
      (callee.value === names.forget || callee.value === "raise_exception"));
  });
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** What Python counts as white space. */
const space = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/** Python's `strip`, `lstrip` or `rstrip`. */
function strip(side: "both" | "left" | "right", text: unknown, characters?: unknown): string {
  if (typeof text !== "string") throw new Error("only text can be stripped");
  if (characters != null && typeof characters !== "string") {
    throw new Error("the characters to strip are no text");
  }
  if (characters === "") return text;
  const set = characters == null ? space : Array.from(characters, RegExp.escape).join("");
  const left = side === "right" ? text : text.replace(new RegExp(`^[${set}]+`, "u"), "");
  return side === "left" ? left : trimEnd(left, new RegExp(`[${set}]`, "u"));
}

/** From behind, as a search for an end would look at each run of such characters. */
function trimEnd(text: string, pattern: RegExp): string {
  const characters = Array.from(text);
  let end = characters.length;
  while (end > 0 && pattern.test(characters[end - 1])) end--;
  return characters.slice(0, end).join("");
}

/** A value of the library's. */
interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** Whether Python's `==` holds. */
function isEqual(left: Value, right: Value): boolean {
  const [a, b] = [left.value, right.value];
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => isEqual(item, b[i]));
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size &&
      [...a].every(([key, item]) => b.has(key) && isEqual(item, b.get(key)));
  }
  const isNumber = (value: unknown) => typeof value === "number" || typeof value === "boolean";
  if (isNumber(a) && isNumber(b)) return Number(a) === Number(b);
  return left.type === right.type && a === b;
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() has a step of 0");
  return Array.from(
    { length: Math.max(0, Math.ceil((to - from) / step)) },
    (_, i) => from + i * step,
  );
}
