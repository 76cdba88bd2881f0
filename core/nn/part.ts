/**
 * Parts: what models are made of. A part is one record of config, parameters and two ways to run
 * it, over whole rows (`apply`) and over new tokens after a state (`step`). Parts are pure; nothing
 * is registered and nothing mutates.
 */

import type { z } from "zod";
import type { Spec, Tensor, Traced } from "../graph/mod.ts";
import type { Schedule } from "../optim/schedule.ts";

/** What a parameter is for. Optimizers group by it; nobody guesses from the number of axes. */
export const roles = ["matrix", "embedding", "gain", "bias", "router"] as const;
export type Role = typeof roles[number];

/**
 * A parameter before it has values: shape, first values, role. The leaf of a tree of parameters.
 */
export interface ParamDescription extends Spec {
  readonly role: Role;
  readonly init: Init;
}

export type Init =
  | { readonly kind: "normal"; readonly std: number }
  | { readonly kind: "constant"; readonly value: number }
  /** Rows of length 1 that stand upright on each other, or columns where they are fewer. */
  | { readonly kind: "orthogonal" }
  | { readonly kind: "uniform"; readonly low: number; readonly high: number }
  /** The logarithm of a uniform number between 0 and `high`. */
  | { readonly kind: "log_of_uniform"; readonly high: number }
  /** Of a convolution's factors [taps, channels]: the last tap's 1, all others 0, and normal numbers upon that. */
  | { readonly kind: "identity_taps"; readonly std: number };

export type ParamTree =
  | ParamDescription
  | { readonly [name: string]: ParamTree }
  | readonly ParamTree[];
export type TensorTree = Tensor | { readonly [name: string]: TensorTree } | readonly TensorTree[];
export type SpecTree = Spec | { readonly [name: string]: SpecTree } | readonly SpecTree[];

/** What all parts of a model share. */
export interface Dims {
  readonly hidden_size: number;
  readonly vocab_size: number;
  readonly max_position_embeddings: number;
  /** Layers that a token passes, replayed ones counted each time. */
  readonly depth: number;
  /** Standard deviation of first weights. */
  readonly initializer_range: number;
  /** That of weights that write to the residual stream. */
  readonly output_initializer_range: number;
  /** How weights that read begin; left out: `normal`. */
  readonly initializer?: "normal" | "orthogonal";
  /** The layer that a part belongs to, from 0; 0 outside of layers. */
  readonly layer: number;
}

/** What changes over a run, and how a layer is passed. */
export interface RunContext {
  /** The part's own scheduled values, each f32 []. */
  readonly scalars: Readonly<Record<string, Tensor>>;
  /**
   * Keys u32 [batch, 3] for random numbers of each row (`uniform` takes them), where the part draws some now: see
   * `PartRecord.noise`.
   */
  readonly noise: Tensor | undefined;
  /** Values that cross layers, by name: `x0` is the input's; others are published by parts. */
  readonly streams: Readonly<Record<string, Tensor>>;
  /** Whether the layer was passed before: a replayed layer shares its weights with that pass. */
  readonly isReplay: boolean;
}

/** What `apply` is told besides its input: plain data about the rows. */
export interface RowContext extends RunContext {
  /** i32 [batch, time] */
  readonly ids: Tensor;
  /** i32 [batch, time] */
  readonly positions: Tensor;
  /**
   * i32 [batch, time]; tokens of different segments do not see each other. Left out: a row is one
   * segment.
   */
  readonly segment_ids: Tensor | undefined;
}

/** What `step` is told besides its input. */
export interface StepContext extends RunContext {
  /** i32 [batch, time] */
  readonly ids: Tensor;
  /** i32 [batch, time] */
  readonly positions: Tensor;
  /** i32 [batch]: how many tokens of each row came before. */
  readonly start: Tensor;
  /**
   * i32 [batch]: how many of the new tokens are a row's own; those behind are padding, which must
   * leave no trace in the state. Left out: all.
   */
  readonly lengths: Tensor | undefined;
}

/** A part's result over whole rows. */
export interface Applied {
  readonly out: Tensor;
  /** Further losses of each token, f32 [batch, time], weighted already; of one name the passes' mean counts. */
  readonly aux?: Readonly<Record<string, Tensor>>;
  /** What is worth watching, f32 [batch, time] or [batch, time, n]; tokens and passes are averaged. */
  readonly metrics?: Readonly<Record<string, Tensor>>;
  /** Values for later layers. */
  readonly streams?: Readonly<Record<string, Tensor>>;
}

/** A part's result over new tokens, with the state for the tokens after them. */
export interface Stepped<S = TensorTree> {
  readonly out: Tensor;
  readonly state: S;
  /** Values for later layers. */
  readonly streams?: Readonly<Record<string, Tensor>>;
}

/** `training` alone, or measuring and generating, too. */
export type NoiseUse = "never" | "training" | "always";

export interface PartRecord<C extends z.ZodType, P, S> {
  readonly config: C;
  /** Values that change over a run, by name; `ctx.scalars` has them. */
  scalars?(config: z.output<C>): Readonly<Record<string, Schedule>>;
  /** When it draws random numbers; left out: never. */
  noise?(config: z.output<C>): NoiseUse;
  /** Whether what it gives for a token depends on later ones; left out: no. */
  looksAhead?(config: z.output<C>): boolean;
  params(config: z.output<C>, dims: Dims): P;
  apply(params: Traced<NoInfer<P>>, x: Tensor, ctx: RowContext & PartContext<C>): Applied;
  state(config: z.output<C>, dims: Dims, room: Room): S;
  step(
    params: Traced<NoInfer<P>>,
    x: Tensor,
    ctx: StepContext & PartContext<C>,
    state: Traced<NoInfer<S>>,
  ): Stepped<Traced<NoInfer<S>>>;
}

/** The part's own config and the model's sizes. */
export interface PartContext<C extends z.ZodType> {
  readonly config: z.output<C>;
  readonly dims: Dims;
}

/** How many rows and positions a state must hold. */
export interface Room {
  readonly batch: number;
  readonly capacity: number;
}

/** A part with its config: what a model holds. Its trees' types are known to the part alone. */
export interface BoundPart {
  readonly params: ParamTree;
  readonly scalars: Readonly<Record<string, Schedule>>;
  readonly noise: NoiseUse;
  readonly looksAhead: boolean;
  apply(params: TensorTree, x: Tensor, ctx: RowContext): Applied;
  state(room: Room): SpecTree;
  step(params: TensorTree, x: Tensor, ctx: StepContext, state: TensorTree): Stepped;
}

/** A part that looks at each position alone also runs without a context: `at`. */
export interface BoundPositionwise extends BoundPart {
  at(params: TensorTree, x: Tensor): Tensor;
}

/** A part as it stands in a table of alternatives. */
export interface Part<C extends z.ZodType = z.ZodType, B extends BoundPart = BoundPart> {
  readonly config: C;
  bind(config: z.output<C>, dims: Dims): B;
}

// A model hands back the trees that a part described, so their types are what the part says.
const typed = <T>(tree: TensorTree) => tree as unknown as T;
const untyped = (tree: unknown) => tree as TensorTree;

export function definePart<C extends z.ZodType, P extends ParamTree, S>(
  record: PartRecord<C, P, S>,
): Part<C> {
  return {
    config: record.config,
    bind: (config, dims) => ({
      params: record.params(config, dims),
      scalars: record.scalars?.(config) ?? {},
      noise: record.noise?.(config) ?? "never",
      looksAhead: record.looksAhead?.(config) ?? false,
      apply: (params, x, ctx) => record.apply(typed(params), x, { ...ctx, config, dims }),
      state: (room) => record.state(config, dims, room) as SpecTree,
      step(params, x, ctx, state) {
        const stepped: Stepped<unknown> = record.step(
          typed(params),
          x,
          { ...ctx, config, dims },
          typed(state),
        );
        return { ...stepped, state: untyped(stepped.state) };
      },
    }),
  };
}

/** A part that looks at each position alone: it has no state, and `step` is `apply`. */
export function definePositionwise<C extends z.ZodType, P extends ParamTree>(
  record: {
    readonly config: C;
    params(config: z.output<C>, dims: Dims): P;
    apply(params: Traced<NoInfer<P>>, x: Tensor, ctx: PartContext<C>): Applied;
  },
): Part<C, BoundPositionwise> {
  return {
    config: record.config,
    bind(config, dims) {
      const at = (params: TensorTree, x: Tensor) =>
        record.apply(typed(params), x, { config, dims }).out;
      return {
        params: record.params(config, dims),
        scalars: {},
        noise: "never",
        looksAhead: false,
        at,
        apply: (params, x) => ({ out: at(params, x) }),
        state: () => ({}),
        step: (params, x) => ({ out: at(params, x), state: {} }),
      };
    },
  };
}

/** The alternative of a table that a config's `kind` names, bound to it. */
export function bindFrom<C extends { readonly kind: string }, B extends BoundPart>(
  table: Readonly<Record<C["kind"], Part<z.ZodType, B>>>,
  config: C,
  dims: Dims,
): B {
  return table[config.kind as C["kind"]].bind(config, dims);
}
