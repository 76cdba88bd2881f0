/** The JSON schemas of configs, for editors. */

import { z } from "zod";
import { conversationConfig } from "../sft/config.ts";
import { dataConfig } from "./data_config.ts";
import { type ConfigKind, configKinds } from "./run_config.ts";

const titles: Readonly<Record<ConfigKind, string>> = {
  pretrain: "A pretraining config of quern",
  sft: "A fine-tuning config of quern",
};

/** Where a file says what the data are: one of two keys. */
const choices: readonly unknown[] = [dataConfig, conversationConfig];

/**
 * Draft 2020-12, of what a file may say: defaults may be left out. That sizes fit each other is beyond what it
 * can tell; `quern config check` does.
 */
export function configSchema(kind: ConfigKind = "pretrain"): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(configKinds[kind], {
    io: "input",
    target: "draft-2020-12",
    override: ({ zodSchema, jsonSchema }) => {
      if (choices.includes(zodSchema)) {
        jsonSchema.oneOf = [{ required: ["path"] }, { required: ["sources"] }];
      }
      // A whole number's limits are the language's, not the config's: an editor would show them at every size.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  });
  return { $schema, title: titles[kind], ...schema };
}
