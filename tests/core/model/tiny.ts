/** Tiny models with values, run by the plain loops. */

import {
  interpret,
  leavesOf,
  mapTree,
  type Numbers,
  placeholder,
  type Spec,
  type Tensor,
} from "../../../core/graph/mod.ts";
import {
  buildModel,
  completeModel,
  initialValues,
  type LabelledRows,
  type Model,
  modelConfig,
  type ModelTree,
  namedParams,
} from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import { evenClock, valueAt } from "../../../core/optim/mod.ts";

export const vocab = 11;

export function tinyModel(config: unknown, positions = 16): Model {
  return buildModel(
    completeModel(modelConfig.parse(config), {
      vocab_size: vocab,
      max_position_embeddings: positions,
    }),
  );
}

export const llama = {
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 12,
};

const zeroCentred = { kind: "rms_norm", zero_centered: true, layernorm_scaling: true };

const unweighted = { kind: "rms_norm", weight: false };
const scaledDown = { ...unweighted, layernorm_scaling: true };
const leaky = { kind: "leaky_relu_squared", intermediate_size: 12 };
const mixedAttention = {
  kind: "attention",
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 4,
  qk_norm: true,
  qk_norm_weight: false,
  query_gain: 1.5,
  rope_direction: -1,
  rope_original_positions: 8,
  value_residual: true,
  output_gate: "head",
};

/** Models that between them have every part and every option. */
export const variants: Record<string, unknown> = {
  "llama-like": llama,
  "untied, qk-norm, partly rotary": {
    ...llama,
    tie_word_embeddings: false,
    qk_norm: true,
    partial_rotary_factor: 0.5,
    head_dim: 4,
  },
  "gelu, layer norm, biases, window, softcaps, a replayed and modulated layer, a skip": {
    hidden_size: 8,
    blocks: [
      {
        mixer: {
          kind: "attention",
          num_attention_heads: 2,
          window: 3,
          softcap: 5,
          attention_bias: true,
        },
        mlp: { kind: "gelu", intermediate_size: 12 },
        residual: { kind: "pre_norm", norm: { kind: "layer_norm" } },
      },
      {
        mixer: { kind: "attention", num_attention_heads: 2, partial_rotary_factor: 0 },
        mlp: { kind: "swiglu", intermediate_size: 8 },
      },
    ],
    order: [0, 1, { layer: 0, modulated: true }],
    skips: [{ from: 0, to: 2 }],
    norm: { kind: "layer_norm", bias: false },
    head: { kind: "linear", softcap: 3 },
    remat: true,
  },
  "gated delta, fan, output gate, zero-centred norms, layernorm scaling, gpas, polynorm, dropout": {
    hidden_size: 8,
    blocks: [
      {
        mixer: {
          kind: "gated_delta",
          num_key_heads: 2,
          num_value_heads: 4,
          key_head_dim: 4,
          value_head_dim: 3,
          fan: {},
          dropout: 0.2,
        },
        mlp: { kind: "polynorm", intermediate_size: 12, dropout: 0.2 },
        residual: { kind: "gpas", norm: zeroCentred },
      },
      {
        mixer: {
          kind: "attention",
          num_attention_heads: 2,
          partial_rotary_factor: 0.5,
          qk_norm: true,
          qk_norm_zero_centered: true,
          output_gate: "channel",
          fan: { width: "expanded", ratio: 0.3, bias: false, activation: "gelu" },
        },
        mlp: { kind: "polynorm", intermediate_size: 12, gated: false },
        residual: { kind: "gpas", norm: zeroCentred, gates: "shared" },
      },
      {
        mixer: { kind: "gated_delta", num_key_heads: 2, key_head_dim: 4, value_head_dim: 4 },
        mlp: { kind: "swiglu", intermediate_size: 8 },
        residual: { kind: "pre_norm", norm: { kind: "layer_norm", layernorm_scaling: true } },
      },
    ],
    norm: { kind: "rms_norm", zero_centered: true },
  },
  "polyglu, positions of rows": {
    hidden_size: 8,
    blocks: [{
      repeat: 2,
      mixer: { kind: "attention", num_attention_heads: 2, qk_norm: true, positions: "row" },
      mlp: {
        kind: "polyglu",
        intermediate_size: 12,
        activations: ["relu", "tanh", "gelu_tanh"],
        router_size: 5,
        routing_noise: "always",
        tau: 0.7, // the lower, the more roundings of preferences are magnified
      },
    }],
  },
  "bigrams, smear, value embedding and residual, exclusive, head gates, x0, replays": {
    hidden_size: 8,
    initializer: "orthogonal",
    input: {
      kind: "token",
      bigram: { buckets: 5, size: 4, scale: 0.5 },
      norm: unweighted,
      smear: true,
      value_embedding: { size: 3, channels: 8, scale: 0.7, initializer_range: 0.1 },
    },
    blocks: [
      { mixer: mixedAttention, mlp: leaky, residual: { kind: "x0_mix", norm: scaledDown } },
      {
        mixer: { ...mixedAttention, value_embedding: true, exclusive: true },
        mlp: leaky,
        residual: { kind: "x0_mix", norm: scaledDown, parallel: true },
      },
    ],
    order: [0, 1, { layer: 1, modulated: true }, { layer: 0, modulated: true }],
    skips: [{ from: 0, to: 3 }],
    norm: unweighted,
    remat: true,
  },
  "polymorphic mlps, forced now and then, a convolution as a layer's only mlp": {
    hidden_size: 8,
    blocks: [
      {
        repeat: 2,
        mixer: { kind: "attention", num_attention_heads: 2 },
        mlp: {
          kind: "polymorphic",
          branches: [
            { kind: "swiglu", intermediate_size: 12 },
            { kind: "glu", intermediate_size: 6 },
            {
              kind: "depthwise_conv",
              intermediate_size: 10,
              conv_kernel_dim: 4,
              conv_bias: true,
            },
          ],
          router_size: 5,
          tau: 1.4,
          forcing: { probability: 0.5, each: "token" },
        },
        residual: { kind: "pre_norm", norm: { kind: "layer_norm" } },
      },
      {
        mixer: { kind: "attention", num_attention_heads: 2 },
        mlp: { kind: "depthwise_conv", intermediate_size: 10 },
      },
    ],
    norm: { kind: "layer_norm" },
  },
};

/** The model as in use, told the first of its scheduled values, and for each row the same keys of random numbers. */
export function toldModel(model: Model, values: Values): Model {
  const { scalars, noise } = model, clock = evenClock(1);
  const told = {
    ...(scalars.length > 0 && {
      scalars: values.tensor(
        { shape: [scalars.length], dtype: "f32" },
        scalars.map(({ schedule }) => valueAt(schedule, 0, clock)),
      ),
    }),
  };
  const withKeys = ({ shape: [rows] }: Tensor) => ({
    ...told,
    ...(noise === "always" && {
      noise: values.tensor(
        { shape: [rows, 3], dtype: "u32" },
        Array.from({ length: 3 * rows }, (_, i) => i % 3),
      ),
    }),
  });
  return {
    ...model,
    apply: (params, rows) => model.apply(params, { ...rows, ...withKeys(rows.ids) }),
    loss: (params, rows, options) =>
      model.loss(params, { ...rows, ...withKeys(rows.ids) }, options),
    step: (params, tokens, state) =>
      model.step(params, { ...tokens, ...withKeys(tokens.ids) }, state),
  };
}

/** Numbers that are neither regular nor large. */
export function wave(count: number, phase: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase));
}

/** Placeholders for a tree, and their values by a rule. */
export class Values {
  readonly map = new Map<Tensor, ArrayLike<number>>();

  tree<T>(specs: unknown, fill: (spec: Spec, path: string) => ArrayLike<number>): T {
    return mapTree(specs, (spec: Spec, path) => {
      const tensor = placeholder(spec, path, "state");
      this.map.set(tensor, fill(spec, path));
      return tensor;
    }) as T;
  }

  tensor(spec: Spec, given: ArrayLike<number>): Tensor {
    const tensor = placeholder(spec, "given", "upload");
    this.map.set(tensor, given);
    return tensor;
  }

  /** i32 [rows, columns] */
  integers(values: readonly (readonly number[])[]): Tensor {
    const tensor = placeholder(
      { shape: [values.length, values[0].length], dtype: "i32" },
      "integers",
      "upload",
    );
    this.map.set(tensor, values.flat());
    return tensor;
  }

  vector(values: readonly number[]): Tensor {
    const tensor = placeholder({ shape: [values.length], dtype: "i32" }, "vector", "upload");
    this.map.set(tensor, [...values]);
    return tensor;
  }

  run(outputs: readonly Tensor[], precision: "f32" | "f64" = "f32"): Numbers[] {
    return interpret(outputs, this.map, { precision });
  }
}

/** The model's first weights, spread wider so that differences show. */
export function weights(model: Model, values: Values): ModelTree<TensorTree> {
  const described = new Map(namedParams(model.params).map((param) => [param.path, param]));
  return values.tree(model.params, (_, path) => {
    const { init, ...param } = described.get(path)!, first = initialValues({ init, ...param }, 7);
    switch (init.kind) {
      case "normal":
        return first.map((x) => 10 * x);
      case "constant":
        return wave(first.length, path.length).map((x, i) => first[i] + x);
      default:
        return first;
    }
  });
}

export function rowsOf(values: Values, ids: number[][], targets = ids): LabelledRows {
  return {
    ids: values.integers(ids),
    targets: values.integers(targets),
    positions: values.integers(ids.map((row) => row.map((_, t) => t))),
  };
}

export function pathsOf(tree: unknown): string[] {
  return leavesOf(tree).map(({ path }) => path);
}
