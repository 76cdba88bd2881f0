/**
 * The head and its loss in one: cross-entropy of x Wᵀ without ever holding the logits whole
 * (Wijmans et al. 2024). Rows are done in chunks; when differentiated, loss and gradients come from
 * one sweep, three matrix products instead of four.
 */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  type Numbers,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { mul } from "./elementwise.ts";
import { defineOp, type Kernel } from "./lowering.ts";
import { lossKernel } from "./webgpu/cross_entropy.ts";
import { linearCrossEntropyGradWasm, linearCrossEntropyWasm } from "./wasm/cross_entropy.ts";

export interface CrossEntropyAttrs {
  /** Logits become cap · tanh(logit / cap); 0 leaves them. */
  readonly softcap: number;
  /** This part of the target's probability is spread evenly over the vocabulary. */
  readonly label_smoothing: number;
  /** Adds z_loss · logsumexp² for each token. */
  readonly z_loss: number;
}

/** Targets below 0 or beyond the vocabulary are ignored: no loss, no gradient. */
export const IGNORE = -100;

function checkHead([x, weight, targets, weights]: readonly Spec[]): void {
  expect(
    x.shape.length === 2 && weight.shape.length === 2 && x.shape[1] === weight.shape[1],
    "takes x [tokens, width] and a head [vocab, width]",
  );
  expect(isFloat(x.dtype) && isFloat(weight.dtype), "takes float tensors");
  expect(
    targets.dtype === "i32" && targets.shape.join() === `${x.shape[0]}`,
    "wants one i32 target for each token",
  );
  if (weights) {
    expect(
      isFloat(weights.dtype) && weights.shape.join() === targets.shape.join(),
      "wants one weight for each token",
    );
  }
}

/** Logits, loss and dloss/dlogits of one token. */
function tokenLoss(
  row: Float64Array,
  target: number,
  { softcap, label_smoothing, z_loss }: CrossEntropyAttrs,
): { loss: number; slopes: Float64Array } {
  const vocab = row.length,
    capped = softcap > 0 ? row.map((z) => softcap * Math.tanh(z / softcap)) : row;
  const top = capped.reduce((a, b) => Math.max(a, b), -Infinity);
  const lse = top + Math.log(capped.reduce((sum, z) => sum + Math.exp(z - top), 0));
  const mean = capped.reduce((sum, z) => sum + z / vocab, 0);
  const loss = lse - (1 - label_smoothing) * capped[target] - label_smoothing * mean +
    z_loss * lse * lse;
  const slopes = capped.map((z, j) => {
    const slope = Math.exp(z - lse) * (1 + 2 * z_loss * lse) - label_smoothing / vocab -
      (j === target ? 1 - label_smoothing : 0);
    return softcap > 0 ? slope * (1 - (z / softcap) ** 2) : slope;
  });
  return { loss, slopes };
}

function sweep(
  [x, weight, targets, weights]: readonly Numbers[],
  inputs: readonly Spec[],
  attrs: Attrs,
  visit: (token: number, loss: number, factor: number, slopes: Float64Array) => void,
): void {
  const [tokens, width] = inputs[0].shape, vocab = inputs[1].shape[0];
  for (let token = 0; token < tokens; token++) {
    const target = targets[token], factor = weights ? weights[token] : 1;
    if (target < 0 || target >= vocab || factor === 0) continue;
    const row = new Float64Array(vocab);
    for (let j = 0; j < vocab; j++) {
      for (let i = 0; i < width; i++) row[j] += x[token * width + i] * weight[j * width + i];
    }
    const { loss, slopes } = tokenLoss(row, target, attrs as unknown as CrossEntropyAttrs);
    visit(token, loss, factor, slopes);
  }
}

/**
 * (x [tokens, width], head [vocab, width], targets i32 [tokens][, weights [tokens]]) → the weighted
 * sum of the tokens' losses, a scalar, and each token's own loss [tokens] (0 where ignored),
 * unweighted. Divide by a count at the very end, so that accumulation, padding and evaluation
 * agree. Token weights are constants for differentiation.
 */
export const linearCrossEntropyOp: Kernel = defineOp({
  name: "linear_cross_entropy",
  halves: { reads: [0, 1] },
  kernels: [lossKernel(false)],
  wasm: linearCrossEntropyWasm,
  check(inputs: readonly Spec[], _: Attrs) {
    checkHead(inputs);
    return [{ shape: [], dtype: "f32" }, { shape: [inputs[0].shape[0]], dtype: "f32" }];
  },
  reference(values, [sum, losses], { inputs, attrs }) {
    let total = 0;
    losses.fill(0);
    sweep(values, inputs, attrs, (token, loss, factor) => {
      losses[token] = loss;
      total += factor * loss;
    });
    sum[0] = total;
  },
  vjp([x, weight, targets, ...weights], _y, [dsum, dlosses], attrs) {
    if (dlosses) {
      throw new Error(
        "linear_cross_entropy: only the sum can be differentiated; give token weights instead",
      );
    }
    const [, , dx, dweight] = apply(
      linearCrossEntropyGradOp,
      [x, weight, targets, ...weights],
      attrs,
    );
    return [mul(dx, dsum!), mul(dweight, dsum!), undefined, undefined];
  },
  cost: (node) => headCost(node.inputs, 2),
});

/** The same and more: → sum, losses, dsum/dx [tokens, width], dsum/dhead [vocab, width]. */
export const linearCrossEntropyGradOp: Kernel = defineOp({
  name: "linear_cross_entropy_grad",
  kernels: [lossKernel(true)],
  wasm: linearCrossEntropyGradWasm,
  supersedes: "linear_cross_entropy",
  check(inputs: readonly Spec[], _: Attrs) {
    checkHead(inputs);
    const [x, weight] = inputs;
    return [{ shape: [], dtype: "f32" }, { shape: [x.shape[0]], dtype: "f32" }, {
      shape: x.shape,
      dtype: "f32",
    }, { shape: weight.shape, dtype: "f32" }];
  },
  reference(values, [sum, losses, dx, dweight], { inputs, attrs }) {
    const [x, weight] = values, width = inputs[0].shape[1], vocab = inputs[1].shape[0];
    let total = 0;
    losses.fill(0), dx.fill(0);
    const dhead = new Float64Array(vocab * width);
    sweep(values, inputs, attrs, (token, loss, factor, slopes) => {
      losses[token] = loss;
      total += factor * loss;
      for (let i = 0; i < width; i++) {
        let pull = 0;
        for (let j = 0; j < vocab; j++) {
          pull += slopes[j] * weight[j * width + i];
          dhead[j * width + i] += factor * slopes[j] * x[token * width + i];
        }
        dx[token * width + i] = factor * pull;
      }
    });
    sum[0] = total;
    dweight.set(dhead as never);
  },
  cost: (node) => headCost(node.inputs, 6),
});

function headCost([x, weight]: readonly Spec[], factor: number) {
  return {
    flops: factor * x.shape[0] * sizeOf(weight.shape),
    bytes: 4 * (factor / 2) * (sizeOf(x.shape) + sizeOf(weight.shape)),
  };
}

/** x of any leading axes; the sum of losses and the losses themselves, [tokens]. */
export function linearCrossEntropy(
  x: Tensor,
  head: Tensor,
  targets: Tensor,
  weights?: Tensor,
  attrs: Partial<CrossEntropyAttrs> = {},
): { sum: Tensor; losses: Tensor } {
  const [sum, losses] = apply(
    linearCrossEntropyOp,
    weights ? [x, head, targets, weights] : [x, head, targets],
    {
      softcap: 0,
      label_smoothing: 0,
      z_loss: 0,
      ...attrs,
    },
  );
  return { sum, losses };
}
