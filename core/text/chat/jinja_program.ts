/**
 * Jinja programs, run by @huggingface/jinja, with what that library does otherwise than Python's
 * Jinja put right: `strip` and its like take the characters to strip, `==` compares types and
 * lists, what a turn of a loop sets is forgotten in the next, and a source may have CRLF. What
 * cannot be put right is refused.
 *
 * @module
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { messageOf, UserError } from "../../io/errors.ts";
import { mendNames, mendNode, visitNodes } from "./jinja_mend.ts";
import { isEqual, type JinjaValue, range, strip } from "./python.ts";

/** Renders a program with these variables. */
export type JinjaProgram = (variables: Readonly<Record<string, unknown>>) => string;

/**
 * The program of a source, and the texts that are written in it; `where` names the file in errors.
 */
export function jinjaProgram(
  source: string,
  where: string,
): { readonly run: JinjaProgram; readonly literals: readonly string[] } {
  const { parsed } = parse(source.replaceAll(/\r\n?/g, "\n"), where);
  const literals: string[] = [];
  visitNodes(parsed, (node) => {
    if (node.type === "StringLiteral") literals.push(String(node.value));
    mendNode(node, where);
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

/**
 * As the library's own `render` does it, but with functions that see the scope that they are called
 * in.
 */
function evaluate(parsed: Template["parsed"], variables: Readonly<Record<string, unknown>>) {
  const environment = new Environment();
  const globals = {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    ...variables,
    range,
    raise_exception: (message: unknown) => {
      throw new Error(String(message));
    },
    [mendNames.strip]: strip,
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
    call: (args: readonly JinjaValue[], scope: Environment) => typeof nothing,
  ) => {
    environment.set(name, () => null).value = call;
  };
  define(mendNames.equal, ([left, right]) => isEqual(left, right) ? yes : no);
  define(mendNames.unequal, ([left, right]) => isEqual(left, right) ? no : yes);
  define(mendNames.forget, (args, scope) => {
    for (const { value } of args) scope.variables.delete(String(value));
    return nothing;
  });
  return String(new Interpreter(environment).run(parsed).value);
}
