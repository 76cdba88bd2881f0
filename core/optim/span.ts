/** Lengths of time in a config: `500` or `500 steps`, `2M tokens`, `10%` of the run. */

import { z } from "zod";

const forms = `500, "500 steps", "2M tokens" or "10%"`;
const text = /^\d+(\.\d{1,6})?( ?%| ?[kMB]? (steps?|tokens?))$/;

const spanText = z.string()
  .regex(text, { error: ({ input }) => faultOf(String(input)), abort: true })
  .refine((span) => isPossible(span), {
    error: ({ input }) => `${input}: steps and tokens are whole, and 100% is all of the run`,
    abort: true,
  });

/** A whole number is steps. The text stays as it was written, so that a resolved config says the same. */
export const spanConfig = z.union([z.int().nonnegative(), spanText])
  .meta({ id: "span", examples: ["10%"] });
export type Span = z.output<typeof spanConfig>;

/** A span of some length. */
export const positiveSpan = z.union([
  z.int().positive(),
  spanText.refine((span) => !/^[0.]+\D/.test(span), {
    error: ({ input }) => `expected a length above 0, found "${input}"`,
  }),
]).meta({ id: "positive_span", examples: ["10%"] });

/** A number of tokens: `2000000`, `2M` or `2M tokens`. */
export const tokenCount = z.union([
  z.int().positive(),
  z.string().refine((count) => isCount(count), {
    error: ({ input }) => `expected a number of tokens such as 2000000 or 2M, found "${input}"`,
  }),
]).meta({ id: "token_count", examples: ["2M"] });
export type TokenCount = z.output<typeof tokenCount>;

/** The number that a count says. */
export function tokensOf(count: TokenCount): number {
  if (typeof count === "number") return count;
  const [, digits, decimals = "", multiplier] = count.match(countText)!;
  return Number(digits + decimals) * multipliers[multiplier] / 10 ** decimals.length;
}

const countText = /^(\d+)(?:\.(\d{1,6}))? ?([kMB]?)(?: tokens?)?$/;

function isCount(count: string): boolean {
  return countText.test(count) && Number.isSafeInteger(tokensOf(count)) && tokensOf(count) > 0;
}

function faultOf(span: string): string {
  const found = `found "${span}"`;
  if (/^[\d.]+ ?[kMB]?$/.test(span)) {
    return `steps or tokens? "${span} steps" and "${span} tokens" are understood, ${found}`;
  }
  if (/^[\d.]+ ?[KmbGgTt] (steps?|tokens?)$/.test(span)) {
    return `expected k (thousand), M (million) or B (billion) before the unit, ${found}`;
  }
  return `expected steps, tokens or a part of the run, such as ${forms}; ${found}`;
}

/** What a span says; `part` is a fraction of the run, in whole numbers so that no part is rounded before it is taken. */
export type SpanParts =
  | { readonly unit: "steps"; readonly count: number }
  | { readonly unit: "tokens"; readonly count: number }
  | { readonly unit: "part"; readonly of: number; readonly whole: number };

const multipliers: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, B: 1e9 };

export function parseSpan(span: Span): SpanParts {
  if (typeof span === "number") return { unit: "steps", count: span };
  const [, digits, decimals = "", multiplier, unit] = span.match(
    /^(\d+)(?:\.(\d+))? ?(%|[kMB]?)(?: (step|token)s?)?$/,
  )!;
  const amount = Number(digits + decimals), scale = 10 ** decimals.length;
  if (multiplier === "%") return { unit: "part", of: amount, whole: 100 * scale };
  const count = amount * multipliers[multiplier] / scale;
  return unit === "step" ? { unit: "steps", count } : { unit: "tokens", count };
}

function isPossible(span: string): boolean {
  const parts = parseSpan(span);
  return parts.unit === "part" ? parts.of <= parts.whole : Number.isSafeInteger(parts.count);
}

/** A part of a length, rounded down. */
export function partOf(length: number, { of, whole }: { of: number; whole: number }): number {
  if (length === Infinity) return of === 0 ? 0 : Infinity;
  const product = length * of;
  return Number.isSafeInteger(product)
    ? Math.floor(product / whole)
    : Number(BigInt(length) * BigInt(of) / BigInt(whole));
}

/** What spans and schedules are measured by. */
export interface Clock {
  /** Updates in all: where schedules end. Infinity where nothing but time ends the run. */
  readonly steps: number;
  /** The number of updates that a span takes, counted from the start of the run. */
  stepsOf(span: Span): number;
}

/** The clock of a run whose updates are all alike. */
export function evenClock(steps: number, tokensPerStep = 1): Clock {
  return {
    steps,
    stepsOf(span) {
      const parts = parseSpan(span);
      if (parts.unit === "part") return partOf(steps, parts);
      return parts.unit === "steps" ? parts.count : Math.ceil(parts.count / tokensPerStep);
    },
  };
}
