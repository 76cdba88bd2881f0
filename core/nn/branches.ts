/** Mlps that stand for themselves, alone in a layer or as branches of one that mixes them. */

import { z } from "zod";
import { convMlp } from "./conv_mlp.ts";
import { geluMlp, glu, leakyReluSquared, swiglu } from "./plain_mlps.ts";
import { polyNormMlp } from "./polynorm.ts";

export const branches = {
  swiglu,
  glu,
  gelu: geluMlp,
  leaky_relu_squared: leakyReluSquared,
  polynorm: polyNormMlp,
  depthwise_conv: convMlp,
};
export const branchConfigs = [
  swiglu.config,
  glu.config,
  geluMlp.config,
  leakyReluSquared.config,
  polyNormMlp.config,
  convMlp.config,
] as const;
export const branchConfig = z.discriminatedUnion("kind", branchConfigs);
export type BranchConfig = z.output<typeof branchConfig>;
