/** The PyTorch form of each part: which sources a model's module is put together from, and what its classes are called. */

import type { inputs, mixers, mlps, residuals } from "../../nn/mod.ts";
import attention from "./attention.py" with { type: "text" };
import conv from "./conv.py" with { type: "text" };
import convMlp from "./conv_mlp.py" with { type: "text" };
import fan from "./fan.py" with { type: "text" };
import gatedDelta from "./gated_delta.py" with { type: "text" };
import gpas from "./gpas.py" with { type: "text" };
import norms from "./norms.py" with { type: "text" };
import plainMlps from "./plain_mlps.py" with { type: "text" };
import polyglu from "./polyglu.py" with { type: "text" };
import polymorphic from "./polymorphic.py" with { type: "text" };
import polynorm from "./polynorm.py" with { type: "text" };
import preNorm from "./pre_norm.py" with { type: "text" };
import rotary from "./rotary.py" with { type: "text" };
import tokenInput from "./token_input.py" with { type: "text" };
import x0Mix from "./x0_mix.py" with { type: "text" };

/** Python texts, each after what it needs, and the class that takes `(config, dims)`. */
export interface TorchPart {
  readonly class: string;
  readonly sources: readonly string[];
}

/** Every part of `core/nn` must be here; `undefined` says that it has no PyTorch form yet. */
type Forms<T> = { readonly [K in keyof T]: TorchPart | undefined };

const plain = (name: string): TorchPart => ({ class: name, sources: [plainMlps] });

const branches = {
  swiglu: plain("GatedMlp"),
  glu: plain("Glu"),
  gelu: plain("UpDownMlp"),
  leaky_relu_squared: plain("LeakyReluSquared"),
  polynorm: { class: "PolyNormMlp", sources: [polynorm] },
  depthwise_conv: { class: "ConvMlp", sources: [conv, convMlp] },
};

export const torchParts = {
  mixer: {
    attention: { class: "Attention", sources: [norms, rotary, fan, attention] },
    gated_delta: { class: "GatedDelta", sources: [norms, fan, conv, gatedDelta] },
  } satisfies Forms<typeof mixers>,
  mlp: {
    ...branches,
    polyglu: { class: "Polyglu", sources: [polyglu] },
    polymorphic: { class: "Polymorphic", sources: [polymorphic] },
  } satisfies Forms<typeof mlps>,
  residual: {
    pre_norm: { class: "PreNorm", sources: [norms, preNorm] },
    gpas: { class: "Gpas", sources: [norms, gpas] },
    x0_mix: { class: "X0Mix", sources: [norms, x0Mix] },
  } satisfies Forms<typeof residuals>,
  input: {
    token: { class: "TokenInput", sources: [norms, conv, tokenInput] },
  } satisfies Forms<typeof inputs>,
} as const;
