import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type CrossEntropyAttrs,
  IGNORE,
  linearCrossEntropyGradOp,
  linearCrossEntropyOp,
} from "../../../kernels/cross_entropy.ts";
import { chunkRows } from "../../../kernels/wasm/cross_entropy.ts";
import { checkWasm, integers, plain, sample } from "./harness.ts";

const simple: CrossEntropyAttrs = { softcap: 0, label_smoothing: 0, z_loss: 0 };

interface Case {
  readonly tokens: number;
  readonly width: number;
  readonly vocab: number;
  readonly weighted?: boolean;
  readonly attrs?: CrossEntropyAttrs;
}

function check(
  { tokens, width, vocab, weighted = false, attrs = simple }: Case,
  target = plain,
  dtype: "f32" | "bf16" = "f32",
) {
  const targets = Array.from({ length: tokens }, (_, i) => i % 5 === 3 ? IGNORE : (i * 7) % vocab);
  const weights = sample([tokens], 3);
  weights.values.forEach((x, i) => weights.values[i] = i % 4 === 2 ? 0 : Math.abs(x));
  const inputs = [
    sample([tokens, width], 1, dtype),
    sample([vocab, width], 2, dtype),
    integers([tokens], targets),
    ...(weighted ? [weights] : []),
  ];
  checkWasm(linearCrossEntropyOp, inputs, { ...attrs }, 2e-6, target);
  checkWasm(linearCrossEntropyGradOp, inputs, { ...attrs }, 1e-5, target);
}

Deno.test("linear cross-entropy, WASM: odd sizes, one token and several chunks", () => {
  for (
    const [tokens, width, vocab] of [[1, 3, 1], [1, 8, 65], [3, 17, 257], [65, 5, 3], [97, 16, 130]]
  ) {
    check({ tokens, width, vocab });
    check({ tokens, width, vocab }, { ...plain, relaxed: false });
  }
  assert.ok(chunkRows(1000, 17) < 1000);
  check({ tokens: 1000, width: 6, vocab: 17 });
});

Deno.test("linear cross-entropy, WASM: a vocabulary of more than one slab", () => {
  check({ tokens: 24, width: 300, vocab: 7000 });
});

Deno.test("linear cross-entropy, WASM: softcap, smoothing, z-loss, token weights, bf16, BLAS", () => {
  const example = { tokens: 30, width: 12, vocab: 45 };
  check({ ...example, weighted: true });
  check({ ...example, attrs: { ...simple, softcap: 1.5 } });
  check({ ...example, attrs: { ...simple, label_smoothing: 0.1 } });
  check({ ...example, attrs: { ...simple, z_loss: 0.01 } });
  check({ ...example, weighted: true, attrs: { softcap: 2, label_smoothing: 0.2, z_loss: 0.03 } });
  check(example, plain, "bf16");
  check({ ...example, tokens: 600, vocab: 5 }, { ...plain, blas: true });
  check({ ...example, tokens: 600 }, { ...plain, blas: true }, "bf16");
});

Deno.test("linear cross-entropy, WASM: any combination", () => {
  const example = fc.record({
    tokens: fc.integer({ min: 1, max: 130 }),
    width: fc.integer({ min: 1, max: 20 }),
    vocab: fc.integer({ min: 1, max: 90 }),
    weighted: fc.boolean(),
    attrs: fc.record({
      softcap: fc.constantFrom(0, 2),
      label_smoothing: fc.constantFrom(0, 0.1),
      z_loss: fc.constantFrom(0, 0.01),
    }),
  });
  fc.assert(fc.property(example, fc.boolean(), (x, relaxed) => check(x, { ...plain, relaxed })), {
    numRuns: 40,
  });
});
