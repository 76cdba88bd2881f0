/** Bits per byte of a whole model in sliding windows, as recycled-core's script counted them. */

import assert from "node:assert/strict";
import { type BitsOptions, bitsPerByte, type LossMeter } from "../../core/eval/bits_per_byte.ts";
import type { SplitReader } from "../../core/data/shard_reader.ts";
import { ignoredTarget } from "../../core/data/batches.ts";
import { type Graph, spec, trace } from "../../core/graph/mod.ts";
import type { LabelledRows } from "../../core/model/mod.ts";
import { byteTokenizer, type Tokenizer } from "../../core/text/tokenizer.ts";
import { rowInputs, toldRows } from "../../core/train/rows.ts";
import type { Session } from "../machines.ts";
import type { CheckCase } from "../vector_tests.ts";
import { checkClose, type Tensors, type VectorCase } from "../vectors.ts";
import { modelParams, recycledCore } from "./recycled.ts";
import { sizesOf } from "./recycled_cases.ts";

const rows = 3, point = { scalars: new Float32Array(), seed: 0, step: 0 };

/** `start` has the parameters. */
export const slidingEval = (start: VectorCase): CheckCase => async (machine, c) => {
  const model = recycledCore(sizesOf(c)),
    { eval_seq_len: length, stride } = c.config as {
      eval_seq_len: number;
      stride: number;
    };
  const given = [...start.tensors].filter(([name]) => name.startsWith("param/"))
    .map(([name, tensor]) => [name.slice(6), tensor] as const);
  const shape = { rows, length, segments: false };
  const graph = trace((_state: unknown, uploads: unknown) => {
    const x = uploads as Tensors & { rows: LabelledRows };
    return { outputs: { losses: model.loss(modelParams(model, x), x.rows).losses } };
  }, {
    state: {},
    batch: {
      ...Object.fromEntries(given.map(([name, { shape }]) => [name, spec(shape)])),
      rows: toldRows(model, shape, "measuring"),
    },
  } as never) as Graph;
  using session: Session = await machine.start(graph);
  const params = Object.fromEntries(given.map(([name, { values }]) => [name, values]));
  const counted: number[] = [];
  const meter: LossMeter = {
    async *score(batches) {
      for (const batch of batches) {
        const inputs = rowInputs(model, batch, { shape, point, use: "measuring" });
        const { losses } = await session.run({ ...params, ...inputs });
        batch.targets.forEach((target, i) => target !== ignoredTarget && counted.push(losses[i]));
        yield { batch, losses };
      }
    },
  };
  const options: BitsOptions = { counting: "challenge", stride, packing: "stream", length, rows };
  const found = await bitsPerByte(meter, { split: splitOf(c) }, tokenizerOf(c), options);
  const wider = machine.name === "webgpu" ? 10 : 1;
  const check = (name: string, values: ArrayLike<number>) => {
    const { suggested_atol = 0 } = c.tolerance(name);
    const twin = machine.name === "loops, f64" ? c.tensors.get(`f64/${name}`) : undefined;
    const { values: expected } = twin ?? c.tensors.get(name)!;
    checkClose(`${machine.name}: ${name}`, values, expected, wider * suggested_atol, wider * 1e-5);
  };
  assert.equal(found.targets, c.config.scored);
  check("out/nll", counted);
  check("out/val_loss", [found.loss]);
  check("out/val_bpb", [found.bits_per_byte]);
  const once = await bitsPerByte(meter, { split: splitOf(c) }, tokenizerOf(c), {
    ...options,
    counting: "once",
  });
  assert.equal(once.targets, c.config.distinct);
};

function splitOf(c: VectorCase): SplitReader {
  const ids = Int32Array.from(c.tensors.get("in/tokens")!.values);
  return {
    name: "val",
    tokens: ids.length,
    documents: 1,
    bytes: NaN,
    endOfText: undefined,
    documentStarts: () => Float64Array.of(0, ids.length),
    read: (start, out) => out.set(ids.subarray(start, start + out.length)),
  };
}

/** A tokenizer with pieces of the recorded lengths. */
function tokenizerOf(c: VectorCase): Tokenizer {
  const of = (name: string) => c.tensors.get(`in/${name}`)!.values;
  const base = of("base_bytes"), space = of("has_leading_space"), boundary = of("is_boundary");
  const pieces = Array.from(base, (bytes, id) => ({
    text: (space[id] ? "\u2581" : "") + "a".repeat(bytes),
    kind: boundary[id] ? "control" as const : "normal" as const,
  }));
  return { ...byteTokenizer(), bytesOf: undefined, pieces: () => pieces };
}
