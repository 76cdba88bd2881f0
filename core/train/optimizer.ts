/** The optimizer of a run's parameters. */

import { ShapeError } from "../graph/mod.ts";
import { UserError } from "../io/errors.ts";
import {
  bindOptimizer,
  type Optimizer,
  type OptimizerConfig,
  type OptimizerParam,
} from "../optim/mod.ts";

/** As `bindOptimizer`; groups and freezes that do not fit the parameters are the config's fault. */
export function optimizerOf(
  config: OptimizerConfig,
  params: readonly OptimizerParam[],
): Optimizer {
  try {
    return bindOptimizer(config, params);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new UserError(error.message.replace(/^optimizer: /, ""), {
      where: "optimizer",
      hint: "quern inspect CONFIG, or RUN, lists the parameters' names and roles",
    });
  }
}
