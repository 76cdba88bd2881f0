/** A model whose forward pass stores what the backward pass needs in another type. */

import { inPrecision, type Precision } from "../../kernels/mod.ts";
import type { Model } from "./model.ts";

/** The model, as it is trained in this precision. Its parameters stay f32, and so do gradients. */
export function withPrecision(model: Model, precision: Precision): Model {
  if (precision === "f32") return model;
  return {
    ...model,
    apply: (...args) => inPrecision(precision, () => model.apply(...args)),
    loss: (...args) => inPrecision(precision, () => model.loss(...args)),
  };
}
