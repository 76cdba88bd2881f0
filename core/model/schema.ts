/** The schema of `model:` in a config file: either form, and sizes that fit each other. */

import { ShapeError } from "../graph/mod.ts";
import { completeModel, modelForms } from "./config.ts";
import { buildModel } from "./model.ts";

// Building describes parameters and computes nothing, so it serves as the check.
export const modelConfig = modelForms.check((ctx) => {
  if (ctx.issues.length > 0) return; // it says already what is wrong
  try {
    buildModel(completeModel(ctx.value, { vocab_size: 1, max_position_embeddings: 1 }));
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    ctx.issues.push({ code: "custom", input: ctx.value, message: error.message });
  }
});
