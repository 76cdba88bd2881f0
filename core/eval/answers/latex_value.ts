/**
 * What a formula without unknowns is worth: numbers, fractions, powers and roots, π, sums and
 * products. A small parser over a fixed grammar; whatever it does not know has no value.
 *
 *     sum     = product { ("+" | "-") product }
 *     product = factor { ["*" | "/" | "\cdot" | "\times"] factor }
 *     factor  = ("+" | "-") factor | power
 *     power   = atom [ "^" (group | sign number | atom) ]
 *     atom    = number | "\pi" | "(" sum ")" | group | "\frac" group group | "\sqrt" ["[" sum "]"] group
 *     group   = "{" sum "}"
 */

/** Undefined where the text is no such formula, or is worth no finite real number. */
export function latexValue(text: string): number | undefined {
  if (text.length > longest) return undefined;
  try {
    const parser = new Parser(tokensOf(text));
    const value = parser.whole();
    return Number.isFinite(value) ? value : undefined;
  } catch (error) {
    if (error instanceof Unknown) return undefined;
    throw error;
  }
}

class Unknown extends Error {}

const alike: Readonly<Record<string, string>> = {
  "\\dfrac": "\\frac",
  "\\tfrac": "\\frac",
  "\\cdot": "*",
  "\\times": "*",
  "\\div": "/",
  "−": "-",
};
const tokenPattern = /\s+|\d+(?:\.\d+)?|\.\d+|\\[a-zA-Z]+|\\[,;:! ]|[-+*/^(){}[\]−]/y;
/** No answer is longer; the parser's depth is bounded by it. */
const longest = 500;

/** Delimiters that grow with what they hold are their plain forms; spaces are nothing. */
function tokensOf(text: string): string[] {
  const tokens: string[] = [];
  tokenPattern.lastIndex = 0;
  for (let at = 0; at < text.length; at = tokenPattern.lastIndex) {
    const [token] = tokenPattern.exec(text) ?? [];
    if (token === undefined) throw new Unknown();
    if (/^\s|^\\[,;:! ]$|^\\(left|right)$/.test(token)) continue;
    tokens.push(alike[token] ?? token);
  }
  return tokens;
}

/** Has a lifetime: the place in the tokens. */
class Parser {
  #at = 0;

  constructor(readonly tokens: readonly string[]) {}

  whole(): number {
    const value = this.#sum();
    if (this.#at < this.tokens.length) throw new Unknown();
    return value;
  }

  get #next(): string | undefined {
    return this.tokens[this.#at];
  }

  #take(token: string): boolean {
    const is = this.#next === token;
    if (is) this.#at++;
    return is;
  }

  #expect(token: string): void {
    if (!this.#take(token)) throw new Unknown();
  }

  #sum(): number {
    let value = this.#product();
    while (this.#next === "+" || this.#next === "-") {
      const sign = this.#take("+") ? 1 : (this.#at++, -1);
      value += sign * this.#product();
    }
    return value;
  }

  #product(): number {
    let value = this.#factor();
    for (;;) {
      if (this.#take("*")) value *= this.#factor();
      else if (this.#take("/")) value /= this.#factor();
      else if (this.#beginsAtom()) value *= this.#implied();
      else return value;
    }
  }

  /** A factor with no sign before it. `3\frac{1}{2}` may be three and a half or three halves: no value. */
  #implied(): number {
    const before = this.tokens[this.#at - 1];
    if (isNumber(before) && (this.#next === "\\frac" || isNumber(this.#next))) throw new Unknown();
    return this.#power();
  }

  #beginsAtom(): boolean {
    const next = this.#next;
    return isNumber(next) || ["(", "\\frac", "\\sqrt", "\\pi"].includes(next ?? "");
  }

  #factor(): number {
    if (this.#take("-")) return -this.#factor();
    if (this.#take("+")) return this.#factor();
    return this.#power();
  }

  #power(): number {
    const base = this.#atom();
    if (!this.#take("^")) return base;
    const exponent = this.#take("-") ? -this.#atom() : this.#atom();
    if (this.#next === "^") throw new Unknown(); // LaTeX has no double superscript
    return base ** exponent;
  }

  #atom(): number {
    const next = this.#next;
    if (isNumber(next)) return Number(this.tokens[this.#at++]);
    if (next === "{") return this.#group();
    if (this.#take("\\pi")) return Math.PI;
    if (this.#take("(")) return this.#closed(")");
    if (this.#take("\\frac")) return this.#group() / this.#group();
    if (this.#take("\\sqrt")) {
      const degree = this.#take("[") ? this.#closed("]") : 2;
      return rootOf(this.#group(), degree);
    }
    throw new Unknown();
  }

  #group(): number {
    this.#expect("{");
    return this.#closed("}");
  }

  #closed(by: string): number {
    const value = this.#sum();
    this.#expect(by);
    return value;
  }
}

function isNumber(token: string | undefined): boolean {
  return token !== undefined && /^[.\d]/.test(token);
}

function rootOf(value: number, degree: number): number {
  if (degree === 2) return Math.sqrt(value);
  if (degree === 3) return Math.cbrt(value);
  return degree % 2 === 1 && value < 0 ? -((-value) ** (1 / degree)) : value ** (1 / degree);
}
