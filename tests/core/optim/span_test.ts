import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { parseConfig } from "../../../core/io/config.ts";
import {
  evenClock,
  parseSpan,
  positiveSpan,
  type Span,
  spanConfig,
  tokenCount,
  tokensOf,
} from "../../../core/optim/mod.ts";
import { UserError } from "../../../core/io/errors.ts";
import { pretrainConfig } from "../../../core/train/mod.ts";
import { tinyConfig } from "../train/tiny_run.ts";

Deno.test("spans: steps, tokens, parts", () => {
  const read = (span: unknown) => parseSpan(spanConfig.parse(span));
  assert.deepEqual(read(500), { unit: "steps", count: 500 });
  assert.deepEqual(read("500 steps"), { unit: "steps", count: 500 });
  assert.deepEqual(read("1 step"), { unit: "steps", count: 1 });
  assert.deepEqual(read("2.5k steps"), { unit: "steps", count: 2500 });
  assert.deepEqual(read("2M tokens"), { unit: "tokens", count: 2e6 });
  assert.deepEqual(read("1.1B tokens"), { unit: "tokens", count: 1.1e9 });
  assert.deepEqual(read("12.5%"), { unit: "part", of: 125, whole: 1000 });
  assert.deepEqual(read("100 %"), { unit: "part", of: 100, whole: 100 });
});

Deno.test("spans: a part of a run is exact, rounded down; tokens count up to the update that reaches them", () => {
  const at = (span: Span, steps = 100) => evenClock(steps, 8).stepsOf(span);
  assert.deepEqual([at("29%"), at("7%"), at("100%"), at("0%")], [29, 7, 100, 0]);
  assert.equal(at("80%", 19531), 15624);
  assert.equal(at("99.999999%", 1e12), 999_999_990_000); // more than a double tells apart while it multiplies
  assert.deepEqual(
    [0, 1, 8, 9].map((tokens) => at(`${tokens} tokens`)),
    [0, 1, 1, 2],
  );
  fc.assert(fc.property(fc.nat(100), fc.nat(1e6), (percent, steps) => {
    const exact = BigInt(percent) * BigInt(steps) / 100n;
    assert.equal(BigInt(at(`${percent}%`, steps)), exact);
  }));
});

Deno.test("spans: what is no span is said where it stands, with what is meant", () => {
  const schema = z.strictObject({ warmup: spanConfig });
  const fault = (value: string) => {
    try {
      parseConfig(schema, { text: `warmup: ${value}`, file: "run.yaml" });
    } catch (error) {
      const { where, message } = error as { where: string; message: string };
      assert.equal(where, "run.yaml:1:9");
      return message.split("\n")[0];
    }
    throw new Error(`${value} is taken`);
  };
  const forms = `expected steps, tokens or a part of the run, such as 500, "500 steps", ` +
    `"2M tokens" or "10%"; found`;
  assert.equal(fault("soon"), `warmup: ${forms} "soon"`);
  assert.equal(fault("-5%"), `warmup: ${forms} "-5%"`);
  assert.equal(fault("10 minutes"), `warmup: ${forms} "10 minutes"`);
  assert.equal(
    fault("2M"),
    'warmup: steps or tokens? "2M steps" and "2M tokens" are understood, found "2M"',
  );
  assert.match(fault("2m tokens"), /^warmup: expected k \(thousand\), M \(million\) or B/);
  assert.match(fault("0.5 steps"), /^warmup: 0\.5 steps: steps and tokens are whole/);
  assert.match(fault("1.0001k tokens"), /^warmup: 1\.0001k tokens: steps and tokens are whole/);
  assert.match(fault("101%"), /100% is all of the run$/);
  assert.equal(fault("-5"), "warmup: expected a number of at least 0, found -5");
  assert.equal(fault("2.5"), "warmup: expected a whole number, found 2.5");
  assert.match(fault("true"), /^warmup: expected a number, found true/);
});

Deno.test("spans: no text does anything but stand for a length or be refused", () => {
  const like = fc.array(
    fc.constantFrom(
      ..."059.kMBKG% -",
      "step",
      "steps",
      "token",
      "tokens",
      "\n",
      "99999999999999999",
    ),
    { maxLength: 8 },
  ).map((parts) => parts.join(""));
  const read = (schema: z.ZodType, text: string, use: (span: Span) => unknown) => {
    const found = schema.safeParse(text);
    if (found.success) use(found.data as Span);
  };
  fc.assert(
    fc.property(fc.oneof(like, fc.string()), (text) => {
      for (const schema of [spanConfig, positiveSpan]) {
        read(schema, text, (span) => assert.ok(evenClock(100, 8).stepsOf(span) >= 0, text));
      }
      read(tokenCount, text, (count) => assert.ok(Number.isSafeInteger(tokensOf(count)), text));
      const { steps: _, ...config } = { ...tinyConfig("data"), max_tokens: "2M" };
      for (const field of ["max_tokens", "log_every"]) {
        try {
          parseConfig(pretrainConfig, {
            text: JSON.stringify({ ...config, [field]: text }),
            file: "run.yaml",
          });
        } catch (error) {
          assert.ok(error instanceof UserError, `${field} ${JSON.stringify(text)}: ${error}`);
        }
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("spans: a wrong max_tokens is said where it stands, though it is the run's length", () => {
  const { steps: _, ...config } = { ...tinyConfig("data"), max_tokens: "50K" };
  assert.throws(
    () => parseConfig(pretrainConfig, { text: JSON.stringify(config), file: "run.yaml" }),
    /max_tokens: expected a number of tokens such as 2000000 or 2M, found "50K"/,
  );
});
