/** A training step of one mlp, alone: what is measured and planned beside others. */

import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../../../core/graph/mod.ts";
import { bindFrom, type Dims, mlpConfig, mlps, type TensorTree } from "../../../core/nn/mod.ts";
import { element, gradients, mul, sumAll } from "../../../kernels/mod.ts";

export interface MlpSizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly tokens: number;
}

/** One layer, on one row of so many tokens. */
export function dimsOf(hidden: number, tokens: number): Dims {
  return {
    hidden_size: hidden,
    vocab_size: 1,
    max_position_embeddings: tokens,
    depth: 1,
    initializer_range: 0.02,
    output_initializer_range: 0.02,
    layer: 0,
  };
}

/**
 * The gradients of an mlp's weights and of its input, left in the state. Uploads: `row` (ids,
 * positions and segments), `tau`, and `noise` where the mlp draws some.
 */
export function mlpStep(
  config: Record<string, unknown>,
  { hidden, intermediate, tokens }: MlpSizes,
): Graph {
  const dims = dimsOf(hidden, tokens);
  const part = bindFrom(
    mlps,
    mlpConfig.parse({ intermediate_size: intermediate, ...config }),
    dims,
  );
  const shape = [1, tokens, hidden], row = spec([1, tokens], "i32");
  const params = mapTree(part.params, ({ shape }: Spec) => spec(shape));
  return trace((state, batch) => {
    const { params, x, cotangent } = state as unknown as Record<"x" | "cotangent", Tensor> & {
      params: TensorTree;
    };
    const told = batch as unknown as Record<"row" | "tau" | "noise", Tensor>;
    const { out } = part.apply(params, x, {
      ids: told.row,
      positions: told.row,
      segment_ids: told.row,
      scalars: { tau: element(told.tau, 0) },
      noise: part.noise === "never" ? undefined : told.noise,
      streams: {},
      isReplay: false,
    });
    const leaves = leavesOf<Tensor>(params).map(({ leaf }) => leaf);
    const [dx, ...grads] = gradients(sumAll(mul(out, cotangent)), [x, ...leaves]);
    let next = 0;
    return { state: { dx, grads: mapTree(params, () => grads[next++]) } };
  }, {
    state: { params, grads: params, x: spec(shape), dx: spec(shape), cotangent: spec(shape) },
    batch: { row, tau: spec([1]), noise: spec([1, 3], "u32") },
  } as never) as Graph;
}
