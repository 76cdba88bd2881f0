/** How each golden case is computed with our ops. */

import * as k from "../../kernels/mod.ts";
import type { Tensor } from "../../core/graph/mod.ts";
import type { CaseOps } from "../vector_tests.ts";

const activation = (f: (x: Tensor) => Tensor, rest: Partial<CaseOps> = {}): CaseOps => ({
  body: ({ x }) => ({ out: { y: f(x) } }),
  ...rest,
});
const smooth = { transcendental: true } as const;

const identity = (n: number) => {
  const values = new Float32Array(n * n);
  for (let i = 0; i < n; i++) values[i * n + i] = 1;
  return k.constant(`identity:${n}`, [n, n], values);
};

const integers = (key: string, shape: readonly number[], values: ArrayLike<number>) =>
  k.constant(key, shape, Int32Array.from(values));

/**
 * With the identity for a head the hidden states are the logits, and so are their gradients: each
 * sum has one term that is not 0.
 */
const logitsLoss = (z: Tensor, targets: Tensor, weights?: Tensor, label_smoothing = 0) =>
  k.linearCrossEntropy(z, identity(z.shape[1]), targets, weights, { label_smoothing });

const crossEntropy: CaseOps = {
  ...smooth,
  body: ({ z, targets }, _, c) => {
    const smoothing = Number(c.config.label_smoothing ?? 0);
    const counted = [...c.tensors.get("in/targets")!.values].filter((t) => t >= 0).length;
    return { out: { loss: k.div(logitsLoss(z, targets, undefined, smoothing).sum, counted) } };
  },
};

const shortConv: CaseOps = {
  body: ({ x, weight, bias }) => {
    const taps = weight.shape.at(-1)!, rows = k.permute(x, [0, 2, 1]);
    const y = k.causalConv(rows, k.permute(k.reshape(weight, [-1, taps]), [1, 0]));
    return { out: { y: k.permute(bias ? k.add(y, bias) : y, [0, 2, 1]) } };
  },
};

export const caseOps: Readonly<Record<string, CaseOps>> = {
  act_relu: activation(k.relu),
  act_tanh: activation(k.tanh, smooth),
  act_silu: activation(k.silu, smooth),
  act_gelu_erf: activation(k.gelu, smooth),
  act_gelu_tanh: activation(k.geluTanh, smooth),
  act_sigmoid: activation(k.sigmoid, smooth),
  act_softplus: activation(k.softplus, smooth),
  act_sin: activation(k.sin, smooth),
  act_cos: activation(k.cos, smooth),
  act_leaky_relu_half_squared: activation((x) => k.square(k.maximum(x, k.mul(x, 0.5)))),
  gumbel_from_uniform: {
    ...smooth,
    body: ({ u }) => ({ out: { g: k.neg(k.log(k.neg(k.log(u)))) } }),
  },
  half_rounding: {
    body: ({ x }) => {
      const stored = (dtype: "bf16" | "f16") => k.add(k.cast(k.cast(x, dtype), "f32"), 0);
      return { out: { f16: stored("f16"), bf16: stored("bf16") } };
    },
  },
  softmax: {
    ...smooth,
    body: ({ z }) => ({
      out: Object.fromEntries(
        ["0.1", "1", "2.2"].map((t) => [`y.${t}`, k.softmaxLast(k.div(z, Number(t)))]),
      ),
    }),
  },
  rmsnorm_plain: {
    body: ({ x }, _, { config }) => ({
      out: { y: k.rmsNorm(x, undefined, { eps: Number(config.eps) }) },
    }),
  },
  layernorm: {
    body: ({ x, weight, bias }, _, { config }) => ({
      out: { y: k.layerNorm(x, weight, bias, { eps: Number(config.eps) }) },
    }),
  },
  linear: {
    body: ({ x, weight, bias }) => ({ out: { y: k.add(k.linear(x, weight), bias) } }),
  },
  rope_conventions: {
    table: true,
    body: ({ q }, _, { config }) => {
      const [batch, time, , width] = q.shape;
      const positions = integers(
        "positions",
        [batch, time],
        Array.from({ length: batch * time }, (_, i) => i % time),
      );
      const tables = k.ropeTables(time, width, Number(config.base));
      return {
        out: {
          half: k.rope(q, positions, tables),
          half_reversed: k.rope(q, positions, tables, { direction: -1 }),
          interleaved: k.rope(q, positions, tables, { layout: "interleaved" }),
        },
      };
    },
  },
  gqa_causal_attention: {
    ...smooth,
    body: ({ q, k: keys, v }) => ({ out: { y: k.attention(q, keys, v) } }),
  },
  gqa_document_attention: {
    ...smooth,
    body: ({ q, k: keys, v }, _, { tensors }) => {
      const starts = tensors.get("in/cu_seqlens")!.values, time = q.shape[0];
      const segments = Array.from(
        { length: time },
        (_, t) => starts.findIndex((start) => start > t),
      );
      const one = (x: Tensor) => k.reshape(x, [1, ...x.shape]);
      const y = k.attention(one(q), one(keys), one(v), integers("documents", [1, time], segments));
      return { out: { y: k.reshape(y, q.shape) } };
    },
  },
  cross_entropy_mean: crossEntropy,
  cross_entropy_label_smoothing_0p01: crossEntropy,
  cross_entropy_label_smoothing_0p1: crossEntropy,
  cross_entropy_ignore_index: crossEntropy,
  cross_entropy_masked: {
    ...smooth,
    body: ({ z, targets, mask }) => ({
      out: { loss: k.div(logitsLoss(z, targets, mask).sum, k.sumAll(mask)) },
    }),
  },
  cross_entropy_per_token: {
    ...smooth,
    // Only the weighted sum has a gradient; upstream gradients of the tokens' losses are its
    // weights.
    body: ({ z, targets }, { nll }) => {
      const { sum, losses } = logitsLoss(z, targets, nll);
      return { out: { nll: losses }, loss: sum };
    },
  },
  ...Object.fromEntries([2, 3, 4].map((taps) => [`depthwise_causal_conv_k${taps}`, shortConv])),
  tied_embedding: {
    ...smooth,
    body: ({ ids, targets, weight }) => {
      const x = k.tanh(k.embedding(weight, ids)), tokens = ids.shape[0] * ids.shape[1];
      const { sum } = k.linearCrossEntropy(
        k.reshape(x, [tokens, -1]),
        weight,
        k.reshape(targets, [tokens]),
      );
      return { out: { loss: k.div(sum, tokens) } };
    },
  },
};
