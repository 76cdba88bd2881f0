/**
 * PolyGLU: a gated mlp whose hidden units each mix several activations. What a unit prefers is
 * learned (alpha); a small net that reads the mean of the tokens pulls all units of a layer one way
 * or another (beta times its result). Source: danielxmed/PolyGLU.
 */

import { z } from "zod";
import {
  add,
  concat,
  div,
  exp,
  fill,
  linear,
  log,
  maximum,
  mul,
  neg,
  permute,
  reciprocal,
  relu,
  reshape,
  runningSum,
  slice,
  sub,
  sumLast,
  sumLeading,
  sumTo,
  toFloat,
  uniform,
  type Value,
  where,
} from "../../kernels/mod.ts";
import { currentPath, reveal, scope, type Spec, stopGradient, type Tensor } from "../graph/mod.ts";
import { scheduleOf } from "../optim/schedule.ts";
import { type ActivationName, activationName, activations } from "./activations.ts";
import { matrix, outputMatrix } from "./params.ts";
import {
  type Applied,
  definePart,
  type Dims,
  type ParamDescription,
  type StepContext,
} from "./part.ts";
import { fromStart, ownTokens } from "./state.ts";

const config = z.strictObject({
  kind: z.literal("polyglu"),
  intermediate_size: z.int().positive(),
  /** What a hidden unit mixes. */
  activations: z.array(activationName).min(2).default(["relu", "tanh", "silu", "gelu"]),
  /** Hidden units of the net that reads the tokens' mean. */
  router_size: z.int().positive().default(32),
  /**
   * Which tokens that mean is of. `causal`: those of the token's segment up to it. `sequence`: all of
   * the row, later ones, other documents and padding among them, as published; every token then
   * depends on what follows it, and generating differs from training: new tokens see the mean of all
   * that is known when they are made, and what was made before stays.
   */
  pooling: z.enum(["causal", "sequence"]).default("causal"),
  /** When preferences are disturbed by Gumbel noise, drawn once for a row, unit and activation. */
  routing_noise: z.enum(["never", "training", "always"]).default("training"),
  /** Preferences are divided by it: the lower, the more a unit uses one activation alone. */
  tau: scheduleOf(z.number().positive()).default(1),
});

export type PolygluConfig = z.output<typeof config>;

const routing = (shape: readonly number[], init: ParamDescription["init"]): ParamDescription => ({
  shape,
  dtype: "f32",
  role: "router",
  init,
});

function params(c: PolygluConfig, dims: Dims) {
  const { intermediate_size: units, router_size, activations: { length: kinds } } = c;
  const normal = { kind: "normal", std: dims.initializer_range } as const;
  const constant = (value: number) => ({ kind: "constant", value }) as const;
  return {
    gate: matrix(units, dims.hidden_size, dims),
    up: matrix(units, dims.hidden_size, dims),
    down: outputMatrix(dims.hidden_size, units, dims),
    router: {
      alpha: routing([units, kinds], constant(0)),
      beta: routing([kinds], constant(1)),
      hidden: routing([router_size, dims.hidden_size], normal),
      hidden_bias: routing([router_size], constant(0)),
      out: routing([kinds, router_size], normal),
      out_bias: routing([kinds], constant(0)),
    },
  };
}

type Tensors<T> = {
  readonly [K in keyof T]: T[K] extends ParamDescription ? Tensor : Tensors<T[K]>;
};
export type PolygluParams = Tensors<ReturnType<typeof params>>;
type Router = PolygluParams["router"];

/** What decides how units mix their activations. */
export interface Routing {
  /** [units, kinds] */
  readonly alpha: Tensor;
  /** What is added for all units of a token: [batch, time, kinds], time 1 where tokens share it. */
  readonly pull: Tensor;
  /** [batch, units, kinds] */
  readonly noise?: Tensor | undefined;
  readonly tau: Value;
}

/** The pull of the net on each token, from means of `features` (see `featuresOf`). */
function pullOf(router: Router, means: Tensor, labels: readonly ActivationName[]): Tensor {
  const hidden = relu(add(means, router.hidden_bias));
  const scores = add(linear(hidden, router.out), router.out_bias);
  reveal("scores", { kind: "scores", over: "tokens", labels }, () => scores);
  return mul(router.beta, scores);
}

/** The net's first layer, which is linear, stands before the mean: fewer numbers are to be summed. */
function featuresOf(router: Router, x: Tensor): Tensor {
  return linear(x, router.hidden);
}

/** Means over whole rows: [batch, time, width] → as much, or [batch, 1, width]. */
function pooled(
  features: Tensor,
  segment_ids: Tensor | undefined,
  pooling: PolygluConfig["pooling"],
): Tensor {
  const [batch, time, width] = features.shape;
  if (pooling === "sequence") return mul(sumTo(features, [batch, 1, width]), 1 / time);
  const counts = runningSum(fill([batch, time, 1], 1), segment_ids);
  return div(runningSum(features, segment_ids), counts);
}

/** −log(−log u), the noise by which the largest of disturbed logits is drawn from their softmax. */
export function gumbel(uniforms: Tensor): Tensor {
  return neg(log(neg(log(uniforms))));
}

/**
 * The weights before their division by a sum, one tensor an activation, and the sum; each broadcasts
 * to [batch, time, units]. One tensor a kind keeps all of it element-wise work, so that no value is
 * stored for each token, unit and kind.
 */
function unscaledWeights({ alpha, pull, noise, tau }: Routing): { each: Tensor[]; sum: Tensor } {
  const [units, kinds] = alpha.shape;
  const preferences = div(permute(alpha, [1, 0]), tau), pulls = div(pull, tau);
  const disturbances = noise && div(permute(noise, [0, 2, 1]), tau); // [batch, kinds, units]
  const logits = Array.from({ length: kinds }, (_, k) => {
    const preference = reshape(slice(preferences, 0, k, 1), [units]);
    const logit = add(preference, slice(pulls, 2, k, 1));
    return disturbances ? add(logit, slice(disturbances, 1, k, 1)) : logit;
  });
  const top = stopGradient(logits.reduce(maximum));
  const each = logits.map((logit) => exp(sub(logit, top)));
  return { each, sum: each.reduce(add) };
}

/** The weights of a routing, an activation after another, each [batch, time, units]. */
export function routingWeights(routing: Routing): Tensor[] {
  const { each, sum } = unscaledWeights(routing);
  return each.map((weight) => div(weight, sum));
}

/** Σ weight · activation(gates): [batch, time, units]. */
export function mixActivations(
  gates: Tensor,
  names: readonly ActivationName[],
  routing: Routing,
): Tensor {
  const { each, sum } = unscaledWeights(routing);
  const terms = names.map((name, k) => mul(each[k], activations[name](gates)));
  return mul(terms.reduce(add), reciprocal(sum)); // of which the slope needs no division
}

/**
 * Entropy of softmax(alpha + pull) over the kinds, without noise and tau: [batch, time, units], or
 * [units] of alpha alone.
 */
export function routingEntropy(alpha: Tensor, pull?: Tensor): Tensor {
  const none = fill([1, 1, alpha.shape[1]], 0);
  const weights = routingWeights({ alpha, pull: pull ?? none, tau: 1 });
  const entropy = neg(weights.map((p) => mul(p, log(add(p, 1e-10)))).reduce(add));
  return pull ? entropy : reshape(entropy, [alpha.shape[0]]);
}

/** What is told of a layer's routing, for each token: one number for all units. */
function metricsOf(alpha: Tensor, pull: Tensor, layer: number, [batch, time]: readonly number[]) {
  const units = alpha.shape[0];
  const forTokens = (x: Tensor) => add(mul(sumLast(x), 1 / units), fill([batch, time, 1], 0));
  const entropies = {
    static_routing_entropy: reshape(forTokens(routingEntropy(alpha)), [batch, time]),
    dynamic_routing_entropy: reshape(forTokens(routingEntropy(alpha, pull)), [batch, time]),
  };
  // once for the mean over the layers, once for this one
  return Object.fromEntries(
    Object.entries(entropies).flatMap(([name, x]) => [[name, x], [`${name}.${layer}`, x]]),
  );
}

/** What units choose by themselves, and on the tokens at hand (as they mix, without noise). */
function revealRouting(
  alpha: Tensor,
  pull: Tensor,
  { config: { activations: labels }, tau }: Pick<Settings, "config" | "tau">,
): void {
  const [units, kinds] = alpha.shape, about = { kind: "shares", over: "units", labels } as const;
  const ofUnits = (weights: readonly Tensor[]) =>
    concat(
      weights.map((weight) => {
        const tokens = weight.shape[0] * weight.shape[1];
        return mul(reshape(sumLeading(reshape(weight, [tokens, units])), [units, 1]), 1 / tokens);
      }),
      1,
    );
  const none = () => fill([1, 1, kinds], 0);
  reveal("static", about, () => ofUnits(routingWeights({ alpha, pull: none(), tau: 1 })));
  reveal("dynamic", about, () => ofUnits(routingWeights({ alpha, pull, tau })));
  const undecided = { kind: "entropy", over: "tokens", most: Math.log(kinds) } as const;
  reveal("dynamic", undecided, () => mul(sumLast(routingEntropy(alpha, pull)), 1 / units));
}

interface Settings {
  readonly config: PolygluConfig;
  readonly tau: Value;
  /** Gumbel noise [batch, units, kinds]. */
  readonly noise: Tensor | undefined;
}

function outputOf(p: PolygluParams, x: Tensor, pull: Tensor, { config, tau, noise }: Settings) {
  const gates = scope("gate", () => linear(x, p.gate));
  const ups = scope("up", () => linear(x, p.up));
  const mixed = scope(
    "router",
    () => mixActivations(gates, config.activations, { alpha: p.router.alpha, pull, noise, tau }),
  );
  return scope("down", () => linear(mul(mixed, ups), p.down));
}

/** What the router adds for all units of a token of whole rows: see `Routing.pull`. */
export function routingPull(
  { router }: PolygluParams,
  x: Tensor,
  { config, segment_ids }: Pick<Settings, "config"> & { segment_ids: Tensor | undefined },
): Tensor {
  return scope(
    "router",
    () =>
      pullOf(
        router,
        pooled(featuresOf(router, x), segment_ids, config.pooling),
        config.activations,
      ),
  );
}

/** Whole rows x [batch, time, channels]. */
export function applyPolyglu(
  p: PolygluParams,
  x: Tensor,
  settings: Settings & { readonly segment_ids: Tensor | undefined; readonly layer: number },
): Applied {
  const pull = routingPull(p, x, settings), { layer } = settings;
  scope("router", () => revealRouting(p.router.alpha, pull, settings));
  return {
    out: outputOf(p, x, pull, settings),
    metrics: scope("router", () => metricsOf(p.router.alpha, pull, layer, x.shape)),
  };
}

/** Of each row's keys, where it has some. */
function noiseFrom(keys: Tensor | undefined, c: PolygluConfig): Tensor | undefined {
  if (!keys) return undefined;
  const shape = [keys.shape[0], c.intermediate_size, c.activations.length];
  return gumbel(uniform(keys, `${currentPath()}.routing_noise`, shape));
}

const drawn = (keys: Tensor | undefined, c: PolygluConfig) =>
  c.routing_noise === "never" ? undefined : noiseFrom(keys, c);

/** How many tokens each row has with the new ones: f32 [batch]. */
function tokensAfter({ start, lengths, ids }: StepContext): Tensor {
  return add(toFloat(start), lengths ? toFloat(lengths) : ids.shape[1]);
}

export const polyglu = definePart({
  config,
  params,
  scalars: ({ tau }) => ({ tau }),
  noise: ({ routing_noise }) => routing_noise,
  looksAhead: ({ pooling }) => pooling === "sequence",
  apply: (p, x, { config, dims, segment_ids, scalars, noise }) =>
    applyPolyglu(p, x, {
      config,
      segment_ids,
      layer: dims.layer,
      tau: scalars.tau,
      noise: drawn(noise, config),
    }),
  /** Sums of features of all tokens so far. */
  state: ({ router_size }, _, { batch }): { sums: Spec } => ({
    sums: { shape: [batch, 1, router_size], dtype: "f32" },
  }),
  step(p, x, ctx, { sums }) {
    const { config, positions, scalars, noise } = ctx, [batch, time] = x.shape;
    const features = scope("router", () => featuresOf(p.router, x)), own = ownTokens(ctx);
    // padding adds nothing, whatever it is
    const counted = own ? where(reshape(own, [batch, time, 1]), features, 0) : features;
    const running = add(runningSum(counted), fromStart(sums, ctx));
    const after = slice(running, 1, time - 1, 1);
    const means = config.pooling === "causal"
      ? div(running, add(reshape(toFloat(positions), [batch, time, 1]), 1))
      : div(after, reshape(maximum(tokensAfter(ctx), 1), [batch, 1, 1]));
    const pull = scope("router", () => pullOf(p.router, means, config.activations));
    const settings = { config, tau: scalars.tau, noise: drawn(noise, config) };
    return { out: outputOf(p, x, pull, settings), state: { sums: after } };
  },
});
