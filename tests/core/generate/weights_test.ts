import assert from "node:assert/strict";
import { openDevice } from "../../../core/device/mod.ts";
import { Decoder, storedBytes, weightTypes } from "../../../core/generate/mod.ts";
import type { Tensors } from "../../../core/io/tensors.ts";
import {
  buildModel,
  completeModel,
  initialValues,
  modelConfig,
  namedParams,
} from "../../../core/model/mod.ts";
import { fromLevels, type LevelBits, type Levels, toLevels } from "../../../core/quant/levels.ts";
import { webgpuTest } from "../../support.ts";

const sizes = { vocab_size: 65, max_position_embeddings: 32 };
const model = buildModel(completeModel(
  modelConfig.parse({
    hidden_size: 36,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    intermediate_size: 72,
    tie_word_embeddings: false,
  }),
  sizes,
));
const params = namedParams(model.params);

type Changed = (values: Float32Array, columns: number) => Float32Array;
const isWide = (shape: readonly number[]) => shape.length === 2 && Math.min(...shape) >= 16;

/** Weights of chance, matrices changed as told. */
function weightsFile(change: Changed = (values) => values, levels?: Map<string, Levels>) {
  const values = new Map(params.map((param, i) => {
    const first = initialValues(param, i).map((x) => 5 * x);
    return [param.path, isWide(param.shape) ? change(first, param.shape[1]) : first];
  }));
  return {
    path: "weights by chance",
    tensors: new Map(params.map(({ path, shape }) => [path, { shape, dtype: "F32" as const }])),
    read: (name: string) => values.get(name)!,
    ...(levels && { levels: (name: string) => levels.get(name) }),
    [Symbol.dispose]() {},
  } satisfies Tensors;
}

const better = { search: "row", floor: "tiny" } as const;
const bitsOf = { int8: 8, int6: 6, int5: 5 } as const;
type LevelType = keyof typeof bitsOf;
const rounded = (bits: LevelBits): Changed => (values, columns) =>
  fromLevels(toLevels(values, columns, bits, better));

const prompts = [[3, 1, 4, 1, 5, 9, 2, 6, 5], [3, 5], [2, 7, 1, 8, 2, 8, 1]];

/** Logits of a few tokens after the prompts, and the tokens. */
async function decode(
  kind: "cpu" | "webgpu",
  file: Tensors,
  weights: LevelType | "f32",
  rows = prompts,
) {
  await using device = await openDevice({ device: kind, blas: "off", threads: 1 });
  const layout = { batch: rows.length, capacity: 32, weights, outputs: "logits" } as const;
  using decoder = await Decoder.create(model, file, device, layout);
  await decoder.read(rows);
  const logits: number[][] = [], tokens: number[][] = [];
  for await (
    const step of decoder.steps(4, { temperature: 0, topK: 0, topP: 1, seed: 1 })
  ) {
    logits.push(Array.from(step.logits!));
    tokens.push(Array.from(step.tokens));
  }
  return { logits: logits.flat(), tokens };
}

async function decodesAsRounded(kind: "cpu" | "webgpu", weights: LevelType): Promise<void> {
  const found = await decode(kind, weightsFile(), weights);
  const wanted = await decode("cpu", weightsFile(rounded(bitsOf[weights])), "f32");
  assert.deepEqual(found.tokens, wanted.tokens);
  // both are f32 sums of the same products, but for where the scale comes in
  found.logits.forEach((x, i) => assert.ok(Math.abs(x - wanted.logits[i]) < 1e-4, `logit ${i}`));
}

for (const weights of ["int8", "int6", "int5"] as const) {
  Deno.test(`${weights}: a model decodes as with the weights that its levels stand for`, () =>
    decodesAsRounded("cpu", weights));
  webgpuTest(`${weights}: on WebGPU, too`, () => decodesAsRounded("webgpu", weights));
}

Deno.test("int5: a text is the same alone and among others", async () => {
  const file = weightsFile(), all = await decode("cpu", file, "int5");
  for (const [row, prompt] of prompts.entries()) {
    const alone = await decode("cpu", file, "int5", [prompt]);
    assert.deepEqual(alone.tokens.flat(), all.tokens.map((step) => step[row]));
  }
});

Deno.test("int6: levels that a file has are taken as they are", async () => {
  const coarse = { search: "matrix", floor: "reference" } as const;
  const levels = new Map(
    params.filter(({ shape }) => isWide(shape)).map((param, i) => {
      const values = weightsFile().read(param.path);
      return [param.path, toLevels(values, param.shape[1], 6, i % 2 === 0 ? coarse : better)];
    }),
  );
  const stood = weightsFile();
  const wanted = {
    ...stood,
    read: (name: string) => levels.has(name) ? fromLevels(levels.get(name)!) : stood.read(name),
  };
  const found = await decode("cpu", weightsFile(undefined, levels), "int6");
  const { logits } = await decode("cpu", wanted, "f32");
  found.logits.forEach((x, i) => assert.ok(Math.abs(x - logits[i]) < 1e-4, `logit ${i}`));
});

Deno.test("weights: each smaller type takes less room, about as many bytes as its bits say", () => {
  const bytes = weightTypes.map((type) => storedBytes(model, type));
  assert.deepEqual(bytes, bytes.toSorted((a, b) => b - a));
  const [f32, , int8, , int5] = bytes;
  // rows of 36 and 72 levels in words of 16 and 24: a third is padding here, a percent in models of use
  assert.ok(int8 / f32 < 0.4 && int5 / f32 < 0.3, `${bytes}`);
});
