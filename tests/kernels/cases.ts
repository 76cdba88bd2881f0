/**
 * One table of sample cases for every op: each device runs it against the plain loops, and the
 * slope tests take it as their samples. Sizes are odd where a kernel could be careless: 1, 3, one
 * past a workgroup.
 *
 * @module
 */

import type { Case } from "./cases/case.ts";
import { elementwise } from "./cases/elementwise.ts";
import { layout } from "./cases/layout.ts";
import { levels } from "./cases/levels.ts";
import { optimizer, sampling } from "./cases/optimizer.ts";
import {
  attention,
  attentionHalves,
  decoding,
  headsGrad,
  lossHeads,
  products,
} from "./cases/products.ts";
import { norms, reduce } from "./cases/reduce.ts";
import { others } from "./cases/tokens.ts";

export { type Case, type InputCase, type Values, valuesOf } from "./cases/case.ts";

export const cases: readonly Case[] = [
  ...elementwise,
  ...layout,
  ...levels,
  ...reduce,
  ...norms,
  ...others,
  ...optimizer,
  ...sampling,
  ...products,
  ...attention,
  ...attention.map(headsGrad),
  ...attentionHalves,
  ...decoding,
  ...lossHeads,
];
