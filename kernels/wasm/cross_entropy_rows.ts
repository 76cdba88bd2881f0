/** A chunk of logits, row by row: softcap, loss, and slopes in their place. */

import type { CrossEntropyAttrs } from "../cross_entropy.ts";
import type { CpuTarget, JobArg, Operand, WasmJob } from "../lowering.ts";
import {
  f32,
  f32x4,
  f64,
  type FunctionBuilder,
  type I32,
  i32,
  type Local,
  v128,
} from "./encode.ts";
import { type Arguments, namedJob } from "./job.ts";
import { maxOf, sumOf } from "./lanes.ts";
import { scalarRules, vectorMath } from "./scalar.ts";

export interface RowOperands {
  readonly logits: Operand;
  readonly targets: Operand;
  readonly weights?: Operand;
  readonly losses: Operand;
  /** Bytes from row to row of the logits: whole vectors. */
  readonly pitch: number;
  readonly vocab: number;
}

/** Which rows of the tokens the logits are, and whether slopes are wanted. */
export interface Chunk {
  readonly first: number;
  readonly count: number;
  readonly gradients: boolean;
}

function rowArguments(
  { logits, targets, weights, losses, pitch, vocab }: RowOperands,
  options: CrossEntropyAttrs,
  first: number,
) {
  const { softcap, label_smoothing, z_loss } = options, none: JobArg = 0;
  return {
    logits,
    targets,
    weights: weights ?? none,
    losses,
    first,
    pitch,
    vocab,
    softcap: { f32: softcap },
    inverseCap: { f32: softcap > 0 ? 1 / softcap : 0 },
    /** What is left to the target, and what each of the vocabulary gets. */
    certain: { f32: 1 - label_smoothing },
    share: { f32: label_smoothing / vocab },
    zLoss: { f32: z_loss },
  };
}

type RowArguments = Arguments<ReturnType<typeof rowArguments>>;

interface Form {
  readonly relaxed: boolean;
  readonly capped: boolean;
  readonly smoothed: boolean;
  readonly weighted: boolean;
  readonly gradients: boolean;
}

export function rowsJob(
  operands: RowOperands,
  options: CrossEntropyAttrs,
  chunk: Chunk,
  target: CpuTarget,
): WasmJob {
  const form: Form = {
    relaxed: target.relaxed,
    capped: options.softcap > 0,
    smoothed: options.label_smoothing > 0,
    weighted: operands.weights !== undefined,
    gradients: chunk.gradients,
  };
  return namedJob({
    key: `cross_entropy ${Object.values(form).join(" ")}`,
    args: rowArguments(operands, options, chunk.first),
    units: chunk.count,
    work: 40 * operands.vocab,
    build: (f, a) => writeRows(f, a, form),
  });
}

/** One row being worked on. */
interface Row {
  readonly begin: Local<"i32">;
  readonly end: Local<"i32">;
  /** Address of the target's logit. */
  readonly chosen: Local<"i32">;
}

function writeRows(f: FunctionBuilder, a: RowArguments, form: Form): void {
  const unit = f.i32(), offset = f.i32(), target = f.i32(), factor = f.f32(), lane = f.i32();
  const row: Row = { begin: f.i32(), end: f.i32(), chosen: f.i32() };
  const loss = f.f32(), zero = f.constant(0);
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.set(row.begin, i32.add(a.logits, i32.mul(unit, a.pitch)));
    f.set(row.end, i32.add(row.begin, a.pitch));
    f.set(offset, i32.shl(i32.add(a.first, unit), 2));
    f.set(target, i32.load(i32.add(a.targets, offset)));
    f.set(factor, form.weighted ? f32.load(i32.add(a.weights, offset)) : 1);
    // Negative targets are huge when unsigned.
    f.if(i32.and(i32.ltU(target, a.vocab), f32.ne(factor, 0)), () => {
      f.set(row.chosen, i32.add(row.begin, i32.shl(target, 2)));
      // The pitch is whole vectors: what follows the last logit must neither win nor count.
      f.forRange(
        lane,
        i32.add(row.begin, i32.shl(a.vocab, 2)),
        row.end,
        4,
        () => f.storeF32(lane, -Infinity),
      );
      f.set(loss, writeRow(f, a, form, row, factor));
    }, () => {
      f.set(loss, 0);
      if (form.gradients) f.forRange(lane, row.begin, row.end, 16, () => f.store(lane, zero));
    });
    f.storeF32(i32.add(a.losses, offset), loss);
  });
}

/**
 * Bytes that are summed before they join the row's total: long rows would lose digits in one
 * running sum.
 */
const stretch = 4096;

function forStretches(
  f: FunctionBuilder,
  { begin, end }: Row,
  totals: readonly Local<"v128">[],
  visit: (at: Local<"i32">, sums: Local<"v128">[]) => void,
) {
  const from = f.i32(), at = f.i32(), zero = f.constant(0), sums = totals.map(() => f.v128());
  totals.forEach((total) => f.set(total, zero));
  f.forRange(from, begin, end, stretch, () => {
    sums.forEach((sum) => f.set(sum, zero));
    f.forRange(at, from, i32.minU(i32.add(from, stretch), end), 16, () => visit(at, sums));
    sums.forEach((sum, n) => f.set(totals[n], f32x4.add(totals[n], sum)));
  });
}

/** The loss of a row with a target; its logits become slopes where those are wanted. */
function writeRow(
  f: FunctionBuilder,
  a: RowArguments,
  form: Form,
  row: Row,
  factor: Local<"f32">,
): Local<"f32"> {
  const math = vectorMath(f, form.relaxed), x = f.v128(), at = f.i32(), top = f.v128();
  const cap = f.v128(f32x4.splat(a.softcap)), inverseCap = f.v128(f32x4.splat(a.inverseCap));
  f.set(top, f.constant(-Infinity));
  f.forRange(at, row.begin, row.end, 16, () => {
    f.set(x, v128.load(at));
    if (form.capped) {
      f.set(x, f32x4.mul(x, inverseCap));
      f.set(x, f32x4.mul(cap, scalarRules.tanh(math, x)));
      f.store(at, x);
    }
    f.set(top, f32x4.pmax(top, x));
  });
  if (form.capped) padAgain(f, a, row);
  const largest = f.f32(maxOf(f, top)), total = f.v128(), all = f.v128();
  f.set(top, f32x4.splat(largest));
  forStretches(f, row, form.smoothed ? [total, all] : [total], (at, [sum, values]) => {
    f.set(x, v128.load(at));
    if (form.smoothed) {
      const padding = f32x4.eq(x, f.constant(-Infinity));
      f.set(values, f32x4.add(values, v128.andnot(x, padding)));
    }
    f.set(x, f32x4.sub(x, top));
    f.set(sum, f32x4.add(sum, scalarRules.exp(math, x)));
  });
  f.set(x, f32x4.splat(sumOf(f, total)));
  const lse = f.f32(f32.add(largest, f32x4.extractLane(scalarRules.log(math, x), 0)));
  const chosen = f.f32(f32.load(row.chosen));
  const loss = f.f32(f32.sub(lse, f32.mul(a.certain, chosen)));
  if (form.smoothed) f.set(loss, f32.sub(loss, f32.mul(a.share, sumOf(f, all))));
  f.set(loss, f32.add(loss, f32.mul(a.zLoss, f32.mul(lse, lse))));
  if (form.gradients) writeSlopes(f, a, form, row, { lse, chosen, factor });
  return loss;
}

/** tanh has turned the padding into −cap. */
function padAgain(f: FunctionBuilder, a: RowArguments, { begin, end }: Row): void {
  const at = f.i32();
  f.forRange(at, i32.add(begin, i32.shl(a.vocab, 2)), end, 4, () => f.storeF32(at, -Infinity));
}

/** factor · (softmax · (1 + 2 z_loss lse) − share − certain · [target]) · (1 − (logit / cap)²) */
function writeSlopes(
  f: FunctionBuilder,
  a: RowArguments,
  form: Form,
  row: Row,
  { lse, chosen, factor }: Readonly<Record<"lse" | "chosen" | "factor", Local<"f32">>>,
): void {
  const math = vectorMath(f, form.relaxed),
    at = f.i32(),
    x = f.v128(),
    y = f.v128(),
    slope = f.v128();
  const lseAll = f.v128(f32x4.splat(lse)), one = f.constant(1);
  const weight = f.f32(f32.mul(factor, f32.add(1, f32.mul(f32.mul(2, a.zLoss), lse))));
  const weightAll = f.v128(f32x4.splat(weight)),
    shareAll = f.v128(f32x4.splat(f32.mul(factor, a.share)));
  const inverseCap = f.v128(f32x4.splat(a.inverseCap));
  f.forRange(at, row.begin, row.end, 16, () => {
    f.set(x, v128.load(at));
    f.set(y, f32x4.sub(x, lseAll));
    f.set(y, f32x4.mul(scalarRules.exp(math, y), weightAll));
    if (form.smoothed) f.set(y, f32x4.sub(y, shareAll));
    if (form.capped) {
      f.set(slope, f32x4.mul(x, inverseCap));
      f.set(y, f32x4.mul(y, f32x4.sub(one, f32x4.mul(slope, slope))));
    }
    f.store(at, y);
  });
  const pull = f.f32(f32.mul(factor, a.certain));
  if (form.capped) {
    const part = f.f32(f32.mul(chosen, a.inverseCap));
    f.set(pull, f32.mul(pull, f32.sub(1, f32.mul(part, part))));
  }
  f.storeF32(row.chosen, f32.sub(f32.load(row.chosen), pull));
}

/** The weighted sum of all losses, in doubles and in order; ignored tokens have a loss of 0. */
export function sumJob({ losses, weights }: RowOperands, tokens: number, total: Operand): WasmJob {
  const none: JobArg = 0;
  return namedJob({
    key: `cross_entropy sum ${weights !== undefined}`,
    args: { losses, weights: weights ?? none, tokens, total },
    units: 1,
    work: tokens,
    build(f, a) {
      const at = f.i32(), sum = f.f64(), end: I32 = i32.add(a.losses, i32.shl(a.tokens, 2));
      const weight = f.i32(a.weights);
      f.if(i32.ltU(f.begin, f.end), () => {
        f.forRange(at, a.losses, end, 4, () => {
          const loss = f64.promoteF32(f32.load(at));
          f.set(
            sum,
            f64.add(sum, weights ? f64.mul(loss, f64.promoteF32(f32.load(weight))) : loss),
          );
          f.advance(weight, 4);
        });
        f.storeF32(a.total, f32.demoteF64(sum));
      });
    },
  });
}
