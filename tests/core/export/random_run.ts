/** Runs whose weights are all random, gains and biases among them: what is computed wrongly shows. */

import { normals, sizeOf } from "../../../core/graph/mod.ts";
import { initialValues, namedParams } from "../../../core/model/mod.ts";
import { completeOptimizer } from "../../../core/optim/mod.ts";
import type { Tokenizer } from "../../../core/text/tokenizer.ts";
import {
  modelOf,
  type PretrainConfig,
  saveWeights,
  writeImportedRun,
} from "../../../core/train/mod.ts";

export async function writeRandomRun(
  folder: string,
  config: PretrainConfig,
  tokenizer: Tokenizer,
  step: number,
): Promise<void> {
  const model = modelOf(config, tokenizer.vocabSize),
    imported = { from: "chance", format: "quern" };
  const complete = {
    ...config,
    model: model.config,
    optimizer: completeOptimizer(config.optimizer),
  };
  await Deno.mkdir(folder);
  const session = { version: "test", command: ["test"], imported };
  await writeImportedRun(folder, complete, tokenizer, session);
  await saveWeights(
    folder,
    { step, tokenizer_sha256: tokenizer.hash, imported },
    namedParams(model.params).map((param) => ({
      name: param.path,
      shape: param.shape,
      dtype: "F32",
      data: () => {
        const first = initialValues(param, 3);
        const moved = normals(4, param.path, sizeOf(param.shape));
        return first.map((x, i) => x + 0.05 * moved[i]);
      },
    })),
  );
}
