import assert from "node:assert/strict";
import { z } from "zod";
import { loadConfig, parseConfig } from "../../../core/io/config.ts";
import { UserError } from "../../../core/io/errors.ts";
import { withTempDir } from "../../support.ts";

const part = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("attention"), heads: z.int().positive() }),
  z.strictObject({ kind: z.literal("gated_delta"), heads: z.int(), tail: z.int().default(4) }),
]);
const schema = z.strictObject({
  name: z.string().default("run"),
  activation: z.enum(["relu", "gelu"]).default("relu"),
  train: z.strictObject({ steps: z.int().positive(), lr: z.number().default(0.001) }),
  parts: z.array(part).default([]),
  limit: z.union([z.literal("none"), z.strictObject({ tokens: z.int() })]).optional(),
  rows: z.union([z.int().positive(), z.literal("auto")]).optional(),
  groups: z.record(z.string(), z.strictObject({ lr: z.number() })).default({}),
});

const read = (text: string, overrides: string[] = []) =>
  parseConfig(schema, { text, file: "run.yaml", overrides });

function faultOf(text: string, overrides: string[] = []): UserError {
  try {
    read(text, overrides);
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  assert.fail("the config was accepted");
}

Deno.test("config: fills defaults and types the result", () => {
  const config = read("train: { steps: 1e2 }\nparts: [{ kind: gated_delta, heads: 2 }]");
  assert.equal(config.train.steps, 100);
  assert.deepEqual(config.parts, [{ kind: "gated_delta", heads: 2, tail: 4 }]);
});

Deno.test("config: an unknown key is shown at its place with the nearest name", () => {
  const error = faultOf("train:\n  steps: 5\n  stepz: 6\n");
  assert.equal(error.where, "run.yaml:3:3");
  assert.equal(error.exitCode, 2);
  assert.equal(
    error.message,
    'unknown key train.stepz (did you mean "steps"?)\n  3 |   stepz: 6\n        ^',
  );
});

Deno.test("config: an unknown key inside a member of a union knows that member's keys", () => {
  const error = faultOf(
    "train: {steps: 1}\nparts:\n  - kind: gated_delta\n    heads: 2\n    tale: 3",
  );
  assert.equal(error.where, "run.yaml:5:5");
  assert.match(error.message, /^unknown key parts\.0\.tale \(did you mean "tail"\?\)/);
});

Deno.test("config: every fault is listed, each with its place", () => {
  const error = faultOf(
    "train:\n  steps: -1\nname: 7\nactivation: rellu\nparts: [{kind: atention}]",
  );
  const text = `${error.where}: ${error.message}`;
  assert.match(text, /run\.yaml:2:10: train\.steps: expected a number above 0, found -1/);
  assert.match(text, /run\.yaml:3:7: name: expected text, found 7; put it in quotes/);
  assert.match(text, /run\.yaml:4:13: activation: found "rellu", .* \(did you mean "relu"\?\)/);
  assert.match(text, /run\.yaml:5:16: parts\.0\.kind: found "atention", .*"attention"/);
});

Deno.test("config: text that YAML reads as a number is an error, not a conversion", () => {
  assert.match(
    faultOf("name: 1e5\ntrain: {steps: 1}").message,
    /name: expected text, found 100000/,
  );
  assert.match(
    faultOf("train: {steps: '5'}").message,
    /train\.steps: expected a number, found "5"/,
  );
});

Deno.test("config: a missing key is pointed at where it is missing", () => {
  const error = faultOf("name: x\ntrain:\n  lr: 1\n");
  assert.equal(error.where, "run.yaml:3:3");
  assert.match(error.message, /^train\.steps: missing \(a number\)/);
  assert.match(faultOf("").message, /^train: missing/);
});

Deno.test("config: a key that stands twice, and broken YAML, are errors with a place", () => {
  const twice = faultOf("train: {steps: 1}\nname: a\nname: b");
  assert.equal(twice.where, "run.yaml:3:1");
  assert.match(twice.message, /unique/i);
  assert.match(faultOf("train: {steps: 1").where ?? "", /^run\.yaml:1:/);
  assert.match(faultOf("train: {steps: !much 1}").message, /unresolved tag/i);
});

Deno.test("config: of YAML's errors only the first is shown, and no line floods the terminal", () => {
  assert.equal(
    faultOf("train:\n\tsteps: 1\n  lr: 2\n").message,
    "Tabs are not allowed as indentation\n  2 |  steps: 1\n      ^",
  );
  const { message } = faultOf(`train\x1b[31m${"x".repeat(5000)}`);
  assert.ok(!message.includes("\x1b") && message.length < 300, message);
});

Deno.test("config: the member of a plain union that fits best explains the fault", () => {
  const error = faultOf("train: {steps: 1}\nlimit: {tokens: many}");
  assert.equal(error.where, "run.yaml:2:17");
  assert.match(error.message, /^limit\.tokens: expected a number, found "many"/);
});

Deno.test("--set: values are typed by the schema", () => {
  const base = "train: {steps: 1}\nparts: [{kind: attention, heads: 1}]";
  const config = read(base, [
    "train.steps=20",
    "name=123",
    "parts.0.heads=4",
    "groups.matrix={lr: 0.5}",
    "train.lr=1e-4",
  ]);
  assert.equal(config.train.steps, 20);
  assert.equal(config.name, "123"); // text is wanted, so text is taken
  assert.deepEqual(config.parts, [{ kind: "attention", heads: 4 }]);
  assert.deepEqual(config.groups, { matrix: { lr: 0.5 } });
  assert.equal(config.train.lr, 1e-4);
  assert.equal(read("", ["train.steps=3"]).train.steps, 3);
});

Deno.test("--set: faults name the path and the nearest name", () => {
  const slip = faultOf("train: {steps: 1}", ["train.stepz=3"]);
  assert.equal(slip.where, "--set train.stepz=3");
  assert.equal(slip.message, "unknown key train.stepz");
  assert.equal(slip.hint, "did you mean train.steps?");
  const bad = faultOf("train: {steps: 1}", ["train.steps=-3"]);
  assert.equal(bad.where, "--set train.steps=-3");
  assert.match(bad.message, /^train\.steps: expected a number above 0, found -3/);
  assert.match(faultOf("train: {steps: 1}", ["train.steps"]).message, /path\.to\.key=value/);
  const parts = "train: {steps: 1}\nparts: [{kind: attention, heads: 1}]";
  assert.match(faultOf(parts, ["parts.3.heads=1"]).message, /not one of the list's 1 places/);
  assert.equal(faultOf("train: {steps: 1}", ["parts.0.heads=1"]).where, "--set parts.0.heads=1");
});

Deno.test("config: a file that is not there is a clear error", async () => {
  await withTempDir(async (dir) => {
    const loading = loadConfig(schema, `${dir}/none.yaml`);
    await assert.rejects(loading, { name: "UserError", message: "there is no such file" });
    await assert.rejects(loadConfig(schema, dir), /this is a folder, a config file is expected/);
  });
});

Deno.test("config: where a number or a word may stand, both are said", () => {
  const messageOf = (value: string) => faultOf(`train: { steps: 5 }\nrows: ${value}`).message;
  const expected = "rows: expected a number or auto, found";
  assert.ok(messageOf('"8"').startsWith(`${expected} "8"; leave out the quotes\n`));
  assert.ok(messageOf("8.5").startsWith("rows: expected a whole number or auto, found 8.5\n"));
  assert.ok(messageOf("aut").startsWith(`${expected} "aut" (did you mean "auto"?)\n`));
  assert.match(messageOf("0"), /^rows: expected a number above 0, found 0\n/);
});

Deno.test("config: what the command line says is no key, but an option", () => {
  const out = /it is an option of the command: --out FOLDER/;
  assert.match(faultOf("train: { steps: 5 }\nout: runs/a").message, out);
  assert.match(faultOf("train: { steps: 5 }", ["out=runs/a"]).hint ?? "", out);
  assert.doesNotMatch(faultOf("train: { steps: 5, out: a }").message, /option/);
});
