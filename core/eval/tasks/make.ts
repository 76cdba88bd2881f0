/** A task's file becomes tasks: one, or one for each configuration of its data set. */

import { dirname, isAbsolute, join } from "node:path";
import { UserError } from "../../io/errors.ts";
import type { DatasetRef, Doc, Task, TaskGroup } from "../types.ts";
import { metricKey } from "../types.ts";
import { kindOf } from "./kinds.ts";
import type { TaskConfig } from "./schema.ts";
import { shapes } from "./shape.ts";
import { render } from "./template.ts";

export interface MadeTasks {
  readonly tasks: readonly Task[];
  /** Of a file with several configurations. */
  readonly group?: TaskGroup;
}

/** `file` is where the config was read: its data lie beside it. */
export function makeTasks(config: TaskConfig, file: string): MadeTasks {
  const { task: name, alias, version, dataset_name } = config;
  if (dataset_name === undefined || typeof dataset_name === "string") {
    return { tasks: [makeTask(config, file, { name, dataset_name, alias })] };
  }
  const named = Array.isArray(dataset_name)
    ? dataset_name.map((each) => [each, each])
    : Object.entries(dataset_name);
  const tasks = named.map(([end, dataset_name]) =>
    makeTask(config, file, { name: `${name}_${end}`, dataset_name, alias: end })
  );
  const metrics = tasks[0].metrics.map(metricKey);
  const group = { name, version, tasks: tasks.map(({ name }) => name), metrics };
  return { tasks, group: { ...group, ...(alias !== undefined && { alias }) } };
}

interface Named {
  readonly name: string;
  readonly alias: string | undefined;
  readonly dataset_name: string | undefined;
}

function makeTask(config: TaskConfig, file: string, { name, alias, dataset_name }: Named): Task {
  const kind = kindOf(config), { process_docs, fewshot_docs, fewshot_sampler } = config;
  const shape = (row: Doc): Doc =>
    process_docs === undefined ? row : { ...row, ...shapes[process_docs](row) };
  const documents = (rows: readonly Doc[]) =>
    rows.map((row, i) =>
      namingRow(i, () => {
        const doc = shape(row);
        kind.requests(doc); // what a row lacks is said now, not after an hour
        kind.target(doc);
        return doc;
      })
    );
  return {
    name,
    ...(alias !== undefined && { alias }),
    version: config.version,
    output_type: config.output_type,
    dataset: datasetOf(config, file, dataset_name),
    num_fewshot: config.num_fewshot,
    ...(fewshot_sampler !== undefined && { fewshot_sampler }),
    ...(fewshot_docs && { fewshot_docs: documents(fewshot_docs) }),
    description: render(config.description, { dataset_name }),
    target_delimiter: config.target_delimiter,
    fewshot_delimiter: config.fewshot_delimiter,
    config: { ...config, task: name, dataset_name },
    documents,
    ...kind,
  };
}

function datasetOf(config: TaskConfig, file: string, name: string | undefined): DatasetRef {
  const { dataset_path, data_file, test_split, fewshot_split = test_split } = config;
  return {
    ...(dataset_path !== undefined && { path: dataset_path }),
    ...(name !== undefined && { name }),
    ...(data_file !== undefined && {
      file: isAbsolute(data_file) ? data_file : join(dirname(file), data_file),
    }),
    test_split,
    fewshot_split,
  };
}

function namingRow<T>(index: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { message, hint, exitCode } = error;
    const where = `row ${index + 1}`;
    throw new UserError(message, { where, exitCode, ...(hint !== undefined && { hint }) });
  }
}
