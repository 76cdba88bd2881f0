/** The webgpu forms of `matmul`. */

import type { OpContext, Spec } from "../../core/graph/mod.ts";
import { type GpuKernel, type GpuTarget, input, output, scratch } from "../lowering.ts";
import type { MatmulAttrs } from "../matmul.ts";
import { matmulSizes } from "../sizes.ts";
import {
  type Gemm,
  gemmPasses,
  gemmRuns,
  type GemmVariant,
  gemmVariants,
  planGemm,
} from "./gemm.ts";

/** The product that a node asks for. */
function gemmOf({ inputs, outputs, attrs }: OpContext): Gemm {
  const { transA, transB, epilogue } = attrs as unknown as MatmulAttrs;
  const factor = (i: number) => ({ at: input(i) });
  return {
    ...matmulSizes(inputs, attrs),
    transA,
    transB,
    a: factor(0),
    b: factor(1),
    sink: {
      outputs: outputs.map(({ dtype }, i) => ({ at: output(i), dtype })),
      ...(epilogue && {
        epilogue: { program: epilogue, inputs: inputs.slice(2).map((_, i) => input(i + 2)) },
      }),
    },
  };
}

function kernelOf(name: string, variant?: GemmVariant): GpuKernel {
  const planOf = (node: OpContext, target: GpuTarget) => planGemm(gemmOf(node), target, variant);
  return {
    name,
    ...(variant && { when: (_: OpContext, target: GpuTarget) => gemmRuns(variant, target) }),
    scratch(node, target): readonly Spec[] {
      const size = planOf(node, target).scratch;
      return size > 0 ? [{ shape: [size], dtype: "f32" }] : [];
    },
    passes: (node, target) => gemmPasses(gemmOf(node), planOf(node, target), target, scratch(0)),
  };
}

/**
 * The default picks by shape; the others are there to be raced and tested, each right for every
 * shape.
 */
export const matmulKernels: readonly GpuKernel[] = [
  kernelOf("by_shape"),
  ...gemmVariants.map((variant) => kernelOf(variant, variant)),
];
