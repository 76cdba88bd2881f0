/** The JSON schema of a pretraining config, for editors. */

import { z } from "zod";
import { pretrainConfig } from "./config.ts";
import { dataConfig } from "./data_config.ts";

/**
 * Draft 2020-12, of what a file may say: defaults may be left out. That sizes fit each other is beyond what it
 * can tell; `quern config check` does.
 */
export function configSchema(): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(pretrainConfig, {
    io: "input",
    target: "draft-2020-12",
    override: ({ zodSchema, jsonSchema }) => {
      if (zodSchema === dataConfig) {
        jsonSchema.oneOf = [{ required: ["path"] }, { required: ["sources"] }];
      }
      // A whole number's limits are the language's, not the config's: an editor would show them at every size.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  });
  return { $schema, title: "A pretraining config of quern", ...schema };
}
