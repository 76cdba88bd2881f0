/** Which of a file's dicts is the model's. */

import type { LeftOut } from "../tensors.ts";
import type { Pickled } from "./pickle.ts";
import { isKind, type View } from "./table.ts";
import { broken } from "./faults.ts";

/** What holds the weights where a file holds more, the surest first. */
const weightKeys = [
  "model_state_dict",
  "state_dict",
  "model",
  "module",
  "net",
  "network",
  "weights",
  "params",
];
const trainingKeys = /optim|sched|scaler|loss|rng|grad|moment|ema|average|config|args|history/i;
const mostNames = 2 ** 18, deepest = 8;

/** The tensors of a state dict, wherever in the file it stands, and what else there is. */
export function stateDict(
  root: Pickled,
  path: string,
): { views: Map<string, View>; leftOut: LeftOut[] } {
  const leftOut: LeftOut[] = [];
  let dict = root, at = "";
  for (let depth = 0; depth < deepest; depth++) {
    if (!(dict instanceof Map)) throw broken(path, "it holds no dict of tensors");
    const chosen = weightsKey(dict);
    if (chosen === undefined) break;
    for (const key of dict.keys()) {
      if (key === chosen) continue;
      leftOut.push({ name: at + nameOfKey(key), why: `the weights are in ${at}${chosen}` });
    }
    at += `${chosen}.`;
    dict = dict.get(chosen)!;
  }
  const views = new Map<string, View>();
  for (const [name, value] of leaves(dict, path)) {
    if (!isKind(value, "tensor")) leftOut.push({ name: at + name, why: "no tensor" });
    else if (views.has(name)) throw broken(path, `${name} comes twice`);
    else views.set(name, value as View);
  }
  return { views, leftOut };
}

/** The key of the dict that the weights are in; undefined where this one has them itself. */
function weightsKey(dict: ReadonlyMap<Pickled, Pickled>): string | undefined {
  const seen = new Map<Pickled, boolean>();
  const holders = [...dict].filter(([key, value]) =>
    typeof key === "string" && holdsTensors(value, seen)
  ).map(([key]) => key as string);
  const known = weightKeys.find((key) => holders.includes(key));
  if (known !== undefined) return known;
  if ([...dict.values()].some((value) => isKind(value, "tensor"))) return undefined;
  const likely = holders.filter((key) => !trainingKeys.test(key));
  return likely.length === 1 ? likely[0] : undefined; // several: a tree of modules
}

/** Whether it is a dict that has tensors, or dicts with them; each is looked at once, however often it stands there. */
function holdsTensors(value: Pickled, seen: Map<Pickled, boolean>, depth = 0): boolean {
  if (!(value instanceof Map) || depth > deepest) return false;
  const before = seen.get(value);
  if (before !== undefined) return before;
  seen.set(value, false);
  const holds = value.values().some((inner) =>
    isKind(inner, "tensor") || holdsTensors(inner, seen, depth + 1)
  );
  seen.set(value, holds);
  return holds;
}

/** What dicts in dicts hold, by their keys with dots between. One dict at many places is many, so they are counted. */
function leaves(root: Pickled, path: string): [name: string, value: Pickled][] {
  const found: [string, Pickled][] = [];
  let seen = 0;
  const walk = (dict: Pickled, prefix: string, depth: number) => {
    if (!(dict instanceof Map)) throw broken(path, "it holds no dict of tensors");
    if (depth > deepest) throw broken(path, "its dicts are nested too deeply");
    for (const [key, value] of dict) {
      if (++seen > mostNames) throw broken(path, `it holds more than ${mostNames} names`);
      const name = prefix + nameOfKey(key);
      if (value instanceof Map) walk(value, `${name}.`, depth + 1);
      else found.push([name, value]);
    }
  };
  walk(root, "", 0);
  return found;
}

/** Not what would move a terminal's cursor. */
function nameOfKey(key: Pickled): string {
  const isName = typeof key === "string" || typeof key === "number";
  return isName ? String(key).replaceAll(/\p{Cc}/gu, "\ufffd").slice(0, longestName) : "?";
}

const longestName = 500;
