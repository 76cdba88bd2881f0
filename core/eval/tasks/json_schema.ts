/** The JSON schema of tasks' files, for editors. */

import { z } from "zod";
import { groupConfig, taskConfig } from "./schema.ts";

/** Draft 2020-12, of what a file may say: a task or a group. That its fields are the rows' is beyond what it can tell. */
export function taskSchema(): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(z.union([taskConfig, groupConfig]), {
    io: "input",
    target: "draft-2020-12",
    override: ({ jsonSchema }) => {
      // A whole number's limits are the language's, not the task's: an editor would show them at every count.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return { $schema, title: "A task of quern eval, or a group of tasks", ...schema };
}
