import assert from "node:assert/strict";
import {
  dollarAnswer,
  exactMatchLite,
  extract,
  invalid,
  isEquivalent,
  lastBoxed,
} from "../../../core/eval/answers/mod.ts";
import { latexValue } from "../../../core/eval/answers/latex_value.ts";

Deno.test("formulas: numbers, fractions, powers, roots and π have their values", () => {
  const cases: readonly [string, number][] = [
    ["12", 12],
    ["-.5", -0.5],
    ["3/4", 0.75],
    ["\\frac{1}{-4}", -0.25],
    ["\\dfrac{1}{3}", 1 / 3],
    ["-2^2", -4],
    ["(-2)^2", 4],
    ["2^{-3}", 0.125],
    ["2^-1", 0.5],
    ["2^{10}", 1024],
    ["3\\sqrt{2}", 3 * Math.SQRT2],
    ["\\sqrt[3]{-8}", -2],
    ["\\sqrt[4]{16}", 2],
    ["\\frac{\\sqrt{3}}{2}", Math.sqrt(3) / 2],
    ["2\\pi", 2 * Math.PI],
    ["\\frac{1}{2}\\cdot4+1", 3],
    ["8 \\div 4 \\times 2", 4],
    ["\\left(1+2\\right)3", 9],
    ["1-2-3", -4],
    ["2(3)(4)", 24],
  ];
  for (const [text, value] of cases) {
    assert.ok(Math.abs(latexValue(text)! - value) < 1e-12, `${text}: ${latexValue(text)}`);
  }
});

Deno.test("formulas: what is not certain has no value", () => {
  const unknown = [
    "x",
    "2x",
    "",
    "\\frac{1}{0}",
    "\\sqrt{-1}",
    "2^3^4",
    "3\\frac{1}{2}",
    "(1",
    "1)",
  ];
  const broken = [
    "1+",
    "\\text{a}",
    "1,2",
    "1 2",
    "\\infty",
    "{",
    "-".repeat(100_000),
    "(".repeat(499),
  ];
  for (const text of [...unknown, ...broken]) assert.equal(latexValue(text), undefined, text);
});

Deno.test("exact_match_lite: the same text, value, or elements", () => {
  const equal: readonly [string, string][] = [
    ["x+1", "x+1"],
    ["\\frac{1}{2}", "0.5"],
    ["\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"],
    ["(1,\\frac{1}{2})", "(1,0.5)"],
    ["\\le(1,2\\right)", "(1,2)"],
    ["[0,\\infty)", "[0,\\infty)"],
    ["(-\\infty,.5]", "(-\\infty,\\frac{1}{2}]"],
    ["1,-2,\\frac{3}{6}", "1,-2,0.5"],
    ["((1,2),3)", "((1,2),3.0)"],
    ["10^{15}", "1000000000000000"],
  ];
  for (const [a, b] of equal) {
    assert.ok(exactMatchLite(a, b), `${a} ${b}`);
    assert.ok(exactMatchLite(b, a), `${b} ${a}`);
  }
  const different: readonly [string, string][] = [
    ["x+1", "1+x"],
    ["0.333", "\\frac{1}{3}"],
    ["(1,2)", "(2,1)"],
    ["(1,2)", "[1,2)"],
    ["(1,2)", "(1,2,3)"],
    ["(1,2)", "1,2"],
    ["1000000000001", "1000000000002"],
    ["", "0"],
    ["[invalidanswer]", "0"],
  ];
  for (const [a, b] of different) assert.ok(!exactMatchLite(a, b), `${a} ${b}`);
});

Deno.test("MATH's equality: forms that its clean-up reaches, and those that it does not", () => {
  const equal: readonly [string, string][] = [
    ["\\left(3, \\frac12\\right)", "(3,\\frac{1}{2})"],
    ["\\frac1{72}", "\\frac{1}{72}"],
    ["\\tfrac{1}{2}", "1/2"],
    ["-1/2", "\\frac{-1}{2}"],
    ["90^\\circ", "90"],
    ["\\$5", "5"],
    ["k = .5", "0.5"],
    ["{.5}", "{0.5}"],
    ["1\\!000", "1000"],
    ["\\sqrt", "\\sqrt"],
  ];
  for (const [a, b] of equal) assert.ok(isEquivalent(a, b), `${a} ${b}`);
  const different: readonly [string, string][] = [
    ["abc=5", "5"],
    ["01/2", "\\frac{01}{2}"],
    ["\\sqrt", "\\sqrt{}"],
    ["1\\text{ m}\\text{ s}", "1"],
    ["0.25", "\\frac{1}{4}"],
    ["\\frac", ""],
  ];
  for (const [a, b] of different) assert.ok(!isEquivalent(a, b), `${a} ${b}`);
});

Deno.test("answers: between dollars, or all where there are fewer than two", () => {
  assert.equal(dollarAnswer("so $x$ is $5$."), "x$ is $5");
  assert.equal(dollarAnswer("costs $5"), "costs $5");
  assert.equal(dollarAnswer("five"), "five");
});

Deno.test("answers: boxes within boxes, with \\fbox, and those that do not close", () => {
  assert.equal(lastBoxed("\\boxed{\\text{a {b}}}"), "\\text{a {b}}");
  assert.equal(lastBoxed("\\fbox{3}"), "3");
  assert.equal(lastBoxed("\\boxed{3"), undefined);
  assert.equal(lastBoxed("\\boxed"), undefined);
});

Deno.test("extract: groups that hold nothing are passed by, matches are stripped", () => {
  assert.equal(extract("a 1 b 2", /(x)|(\d)/g, "last"), "2");
  assert.equal(extract("a 1 b 2", /[a-z] \d/g, "first"), "a 1");
  assert.equal(extract("= 7 ", /=(.*)/g, "first"), "7");
  assert.equal(extract("a", /(x?)a/g, "first"), invalid);
});
