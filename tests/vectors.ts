/**
 * Golden vectors: numbers from independent programs, kept in `tests/vectors/`. `index.json` says of
 * each case what it is and how far a result may be off; tensors are named `in/`, `param/` (inputs),
 * `out/` (values), `cot/` (upstream gradients), `gin/` and `grad/` (gradients of `in/` and
 * `param/`), `f64/` (the same in double precision), `step<k>/`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { openSafetensors, type TensorData } from "../core/io/safetensors.ts";
import { type Graph, type Spec, type Tensor, trace } from "../core/graph/mod.ts";
import { add, gradients, mul, sumAll } from "../kernels/mod.ts";
import { root } from "./support.ts";

export interface VectorTensor {
  readonly shape: readonly number[];
  readonly values: Exclude<TensorData, BigInt64Array>;
}

/** How far a result may be off, in absolute terms. */
interface Tolerance {
  readonly suggested_atol?: number;
  /** Where few entries dominate: 99% of them are within this. */
  readonly atol_99pct?: number;
  /** How far the recorded f32 numbers are from f64, to three digits. */
  readonly f32_vs_f64_max_abs?: number;
}

export interface VectorCase {
  readonly id: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, VectorTensor>;
  /** What else the index says of it. */
  readonly extra: Readonly<Record<string, unknown>>;
  tolerance(name: string): Tolerance;
}

interface Index {
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly config: Readonly<Record<string, unknown>>;
        readonly tensors: Readonly<Record<string, Tolerance>>;
      }
    >
  >;
}

/** A JSON file of `tests/vectors/`. */
export function readJson<T>(name: string): T {
  return JSON.parse(Deno.readTextFileSync(`${root}tests/vectors/${name}`));
}

/** The cases of a folder of `tests/vectors/`, which its `index.json` describes. */
export interface VectorSet {
  readonly ids: readonly string[];
  read(id: string): VectorCase;
}

/** `folder` is one of a published model, or `.` for what they share. */
export function vectorSet(folder: string): VectorSet {
  const { cases } = readJson<Index>(`${folder}/index.json`);
  return {
    ids: Object.keys(cases),
    read(id) {
      const { config, tensors: tolerances, ...extra } = cases[id];
      using file = openSafetensors(`${root}tests/vectors/${folder}/${id}.safetensors`);
      const tensors = [...file.tensors].map(([name, { shape }]) => {
        const values = file.read(name);
        if (values instanceof BigInt64Array) throw new TypeError(`${id}: ${name} is I64`);
        return [name, { shape, values }] as const;
      });
      return {
        id,
        config,
        extra,
        tensors: new Map(tensors),
        tolerance: (name) => tolerances[name] ?? {},
      };
    },
  };
}

/** Tensors by the second part of their vector's name. */
export type Tensors = Readonly<Record<string, Tensor>>;

/** What an op makes of a case. */
export interface CaseResult {
  readonly out: Tensors;
  /** What is differentiated; Σ out · cot unless given. */
  readonly loss?: Tensor;
}

/**
 * A graph of a case's values and gradients: uploads are named as the vectors are, outputs as what
 * they must equal.
 */
export function caseGraph(
  { tensors }: VectorCase,
  body: (inputs: Tensors, cotangents: Tensors) => CaseResult,
): Graph {
  const given = [...tensors].filter(([name]) => /^(in|param|cot)\//.test(name));
  const specs = given.map(([name, { shape, values }]): [string, Spec] => [
    name,
    { shape, dtype: values instanceof Int32Array ? "i32" : "f32" },
  ]);
  return trace((_state: Record<string, Tensor>, batch: Record<string, Tensor>) => {
    const pick = (pattern: RegExp) =>
      Object.fromEntries(
        Object.entries(batch).filter(([name]) => pattern.test(name)).map(([name, tensor]) => [
          name.replace(pattern, ""),
          tensor,
        ]),
      );
    const cotangents = pick(/^cot\//), { out, loss } = body(pick(/^(in|param)\//), cotangents);
    const outputs = Object.entries(out).map(([name, tensor]) => [`out/${name}`, tensor] as const);
    const asked = [...tensors.keys()].filter((name) => /^(gin|grad)\//.test(name));
    if (asked.length === 0) return { outputs: Object.fromEntries(outputs) };
    const total = loss ?? Object.entries(cotangents)
      .map(([name, cotangent]) => sumAll(mul(out[name], cotangent)))
      .reduce((sum, term) => add(sum, term));
    const leaves = asked.map((name) =>
      batch[name.replace(/^gin\//, "in/").replace(/^grad\//, "param/")]
    );
    const found = gradients(total, leaves).map((grad, i) => [asked[i], grad] as const);
    return { outputs: Object.fromEntries([...outputs, ...found]) };
  }, { state: {}, batch: Object.fromEntries(specs) }) as Graph;
}

/** Every number within atol + rtol · |expected| of what is expected. */
export function checkClose(
  what: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  atol: number,
  rtol: number,
): void {
  assert.equal(found.length, expected.length, what);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(found[i] - expected[i]), allowed = atol + rtol * Math.abs(expected[i]);
    if (error <= allowed) continue;
    assert.fail(`${what}[${i}]: ${found[i]} is not ${expected[i]}, off by ${error} > ${allowed}`);
  }
}
