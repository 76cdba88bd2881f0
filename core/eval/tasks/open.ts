/** Tasks by name, of those that are carried, or by the path of a file. */

import { didYouMean, UserError } from "../../io/errors.ts";
import { parseConfig, readConfigText } from "../../io/config.ts";
import { plural } from "../../io/words.ts";
import { metricKey, type OpenTasks, type Task, type TaskGroup } from "../types.ts";
import type { TaskSelection } from "../types.ts";
import { makeTasks } from "./make.ts";
import { type GroupConfig, groupConfig, type TaskConfig, taskConfig } from "./schema.ts";

/** A task's file that is carried: its text, and the name to call it by. */
export interface CarriedTask {
  readonly name: string;
  readonly file: string;
  readonly text: string;
}

/** Opens tasks of files, and those of `carried`; a group opens what it is made of. */
export function taskOpener(carried: readonly CarriedTask[]): OpenTasks {
  const known = catalog(carried);
  return async (names) => {
    const tasks = new Map<string, Task>(), groups = new Map<string, TaskGroup>();
    for (const name of names) {
      const found = isPath(name) ? await readFile(name, known) : selected(name, known);
      for (const task of found.tasks) addOnce(tasks, task);
      for (const group of found.groups) addOnce(groups, group);
    }
    return { tasks: [...tasks.values()], groups: [...groups.values()] };
  };
}

/** All tasks and groups of files, by name. */
export interface Catalog {
  readonly tasks: ReadonlyMap<string, Task>;
  readonly groups: ReadonlyMap<string, TaskGroup>;
}

export function catalog(carried: readonly CarriedTask[]): Catalog {
  const tasks = new Map<string, Task>(), groups = new Map<string, TaskGroup>();
  const joined: GroupConfig[] = [];
  for (const source of carried) {
    const config = parseTask(source);
    if ("group" in config) joined.push(config);
    else add(config, source.file, { tasks, groups });
  }
  for (const config of joined) {
    groups.set(config.group, groupOf(config, config.group, { tasks, groups }));
  }
  return { tasks, groups };
}

/** Whether a text is meant to be a task's file, or a group's. */
export function isTaskFile(text: string): boolean {
  return /^["']?(output_type|group)["']?\s*:/m.test(text);
}

/** A file that names a group is one; so faults are told of what it is meant to be. */
export function parseTask(source: Omit<CarriedTask, "name">): GroupConfig | TaskConfig {
  const isGroup = /^["']?group["']?\s*:/m.test(source.text);
  return isGroup ? parseConfig(groupConfig, source) : parseConfig(taskConfig, source);
}

function add(
  config: TaskConfig,
  file: string,
  { tasks, groups }: { tasks: Map<string, Task>; groups: Map<string, TaskGroup> },
): void {
  const made = makeTasks(config, file);
  for (const task of made.tasks) tasks.set(task.name, task);
  if (made.group) groups.set(made.group.name, made.group);
}

/** What a name stands for: a task, or a group with its tasks. */
function selected(name: string, { tasks, groups }: Catalog): TaskSelection {
  const group = groups.get(name), task = tasks.get(name);
  if (group) return { tasks: group.tasks.map((name) => tasks.get(name)!), groups: [group] };
  if (task) return { tasks: [task], groups: [] };
  throw unknown(name, { tasks, groups }, name);
}

async function readFile(path: string, known: Catalog): Promise<TaskSelection> {
  const config = parseTask({ file: path, text: await readConfigText(path) });
  if (!("group" in config)) {
    const { tasks, group } = makeTasks(config, path);
    return { tasks, groups: group ? [group] : [] };
  }
  const group = groupOf(config, path, known);
  return { tasks: group.tasks.map((name) => known.tasks.get(name)!), groups: [group] };
}

/** Members that are groups stand for their tasks; the metrics are those that all have. */
function groupOf(
  { group: name, alias, version, task: members }: GroupConfig,
  where: string,
  known: Catalog,
): TaskGroup {
  const tasks = [
    ...new Set(members.flatMap((member) => {
      const group = known.groups.get(member);
      if (group) return group.tasks;
      if (known.tasks.has(member)) return [member];
      throw unknown(member, known, where);
    })),
  ];
  const shared = tasks.map((task) => new Set(known.tasks.get(task)!.metrics.map(metricKey)));
  const metrics = [...shared[0]].filter((key) => shared.every((keys) => keys.has(key)));
  if (metrics.length === 0) {
    throw new UserError(`its ${plural(tasks.length, "task")} have no metric in common`, { where });
  }
  return { name, version, tasks, metrics, ...(alias !== undefined && { alias }) };
}

function addOnce<T extends { readonly name: string }>(all: Map<string, T>, item: T): void {
  const other = all.get(item.name);
  if (other !== undefined && other !== item) {
    throw new UserError(`two tasks are called ${item.name}`, {
      hint: "give the one of your file another name",
    });
  }
  all.set(item.name, item);
}

const isPath = (name: string) => /\.ya?ml$/i.test(name) || /[\\/]/.test(name);

function unknown(name: string, { tasks, groups }: Catalog, where: string): UserError {
  const names = [...groups.keys(), ...tasks.keys()];
  const members = new Set([...groups.values()].flatMap(({ tasks }) => tasks));
  const short = [...groups.keys(), ...[...tasks.keys()].filter((name) => !members.has(name))];
  return new UserError(`there is no task ${name}${didYouMean(name, names)}`, {
    where,
    hint: `quern carries ${short.sort().join(", ")}; a file of yours is named by its path`,
  });
}
