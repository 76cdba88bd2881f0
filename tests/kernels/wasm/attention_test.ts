import fc from "fast-check";
import {
  type AttentionAttrs,
  attentionGradOp,
  attentionOp,
  cachedAttentionOp,
} from "../../../kernels/attention.ts";
import { sizeOf } from "../../../core/graph/tensor.ts";
import { storingHalves } from "../cases/case.ts";
import { checkWasm, integers, plain, type Sample, sample } from "./harness.ts";

interface Case {
  readonly batch: number;
  readonly time: number;
  readonly kvHeads: number;
  readonly group: number;
  readonly width: number;
  readonly attrs: AttentionAttrs;
  /** Tokens of a document; 0 for no segments. */
  readonly document: number;
}

const causal: AttentionAttrs = { causal: true, window: 0, scale: 0.3, softcap: 0 };

function operands(
  { batch, time, kvHeads, group, width, document }: Case,
  dtype: "f32" | "bf16" = "f32",
) {
  const heads = kvHeads * group, keys = [batch, time, kvHeads, width];
  const qkv = [
    sample([batch, time, heads, width], 1),
    sample(keys, 2, dtype),
    sample(keys, 3, dtype),
  ];
  const ids = Array.from({ length: batch * time }, (_, i) => Math.floor((i % time) / document));
  return { qkv, segments: document > 0 ? [integers([batch, time], ids)] : [] };
}

/** Forward, then backward with all but the log-sum-exp in bf16. */
function checkHalves({ batch, time, kvHeads, group, width, ...example }: Case, relaxed: boolean) {
  const queries = [batch, time, kvHeads * group, width], keys = [batch, time, kvHeads, width];
  const half = (shape: number[], seed: number) => sample(shape, seed, "bf16");
  const qkv = [half(queries, 1), half(keys, 2), half(keys, 3)];
  const { segments } = operands({ batch, time, kvHeads, group, width, ...example });
  const target = { ...plain, relaxed }, attrs = { ...example.attrs };
  checkWasm(storingHalves(attentionOp, [0]), [...qkv, ...segments], attrs, 2e-6, target);
  const lse = sample([batch, kvHeads * group, time], 6);
  lse.values.forEach((x, i) => lse.values[i] = x + 3);
  checkWasm(
    storingHalves(attentionGradOp, time % 2 ? [0, 1, 2] : [1]),
    [...qkv, half(queries, 4), lse, half(queries, 5), ...segments],
    attrs,
    2e-5,
    target,
  );
}

/** Forward, then backward from the forward's own results. */
function check(example: Case, relaxed = true, dtype: "f32" | "bf16" = "f32"): void {
  const target = { ...plain, relaxed },
    { attrs } = example,
    { qkv, segments } = operands(example, dtype);
  const inputs = [...qkv, ...segments];
  checkWasm(attentionOp, inputs, { ...attrs }, 2e-6, target);
  const outputs = attentionOp.check(inputs, { ...attrs });
  const results: Sample[] = outputs.map((spec) => ({
    ...spec,
    values: new Float64Array(sizeOf(spec.shape)),
  }));
  attentionOp.reference(inputs.map((x) => x.values), results.map((x) => x.values), {
    inputs,
    outputs,
    attrs: { ...attrs },
  });
  const slopes = sample(outputs[0].shape, 4);
  checkWasm(attentionGradOp, [...qkv, ...results, slopes, ...segments], { ...attrs }, 2e-5, target);
}

const base: Case = {
  batch: 1,
  time: 20,
  kvHeads: 2,
  group: 1,
  width: 16,
  attrs: causal,
  document: 0,
};

Deno.test("attention, WASM: odd lengths and head sizes, forward and backward", () => {
  for (const time of [1, 3, 17, 48, 65, 257]) check({ ...base, time, kvHeads: 1 });
  for (const width of [1, 3, 7, 33, 64, 130]) check({ ...base, width });
  check({ ...base, time: 50, width: 20 }, false);
});

Deno.test("attention, WASM: grouped heads, window, softcap, documents, no causal order", () => {
  check({ ...base, group: 3, batch: 2 });
  check({ ...base, time: 130, attrs: { ...causal, window: 10 } });
  check({ ...base, time: 70, attrs: { ...causal, causal: false } });
  check({ ...base, time: 70, attrs: { ...causal, causal: false, window: 9 } });
  check({ ...base, time: 70, attrs: { ...causal, softcap: 2, scale: 1 } });
  check({ ...base, time: 150, document: 37, batch: 2 });
  check({
    ...base,
    time: 150,
    document: 7,
    group: 2,
    attrs: { ...causal, causal: false, softcap: 1 },
  });
});

Deno.test("attention, WASM: keys and values in bf16", () => {
  check({ ...base, time: 60, width: 18 }, true, "bf16");
});

Deno.test("attention, WASM: any combination", () => {
  const example = fc.record({
    batch: fc.integer({ min: 1, max: 2 }),
    time: fc.integer({ min: 1, max: 110 }),
    kvHeads: fc.integer({ min: 1, max: 2 }),
    group: fc.integer({ min: 1, max: 3 }),
    width: fc.integer({ min: 1, max: 24 }),
    document: fc.constantFrom(0, 5, 60),
    attrs: fc.record({
      causal: fc.boolean(),
      window: fc.constantFrom(0, 1, 12, 70),
      scale: fc.constantFrom(0.25, 1),
      softcap: fc.constantFrom(0, 3),
    }),
  });
  fc.assert(fc.property(example, fc.boolean(), (x, relaxed) => check(x, relaxed)), { numRuns: 40 });
  fc.assert(fc.property(example, fc.boolean(), checkHalves), { numRuns: 40 });
});

Deno.test("cached attention, WASM: new tokens over a cache, one and many, rows of different length", () => {
  const cached = (
    time: number,
    starts: number[],
    group: number,
    width: number,
    attrs = causal,
    dtype: "f32" | "bf16" = "f32",
  ) => {
    const batch = starts.length, capacity = 90, keys = [batch, capacity, 2, width];
    const q = sample([batch, time, 2 * group, width], 5);
    const inputs = [q, sample(keys, 6, dtype), sample(keys, 7, dtype), integers([batch], starts)];
    for (const relaxed of [true, false]) {
      checkWasm(cachedAttentionOp, inputs, { ...attrs }, 2e-6, { ...plain, relaxed });
    }
  };
  for (const width of [1, 6, 32, 65]) cached(1, [0, 7, 88], 1, width);
  cached(1, [3, 89], 4, 16);
  cached(3, [0, 86], 3, 8, { ...causal, window: 5, softcap: 2 });
  cached(1, [17], 2, 64, causal, "bf16");
  cached(60, [0, 30, 11], 2, 16);
  cached(60, [0, 30], 1, 16, { ...causal, window: 13, softcap: 1.5 }, "bf16");
  cached(1, [-1, 4], 1, 8); // an idle row sees nothing
});
