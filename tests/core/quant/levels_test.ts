import assert from "node:assert/strict";
import fc from "fast-check";
import { roundEven } from "../../../core/graph/mod.ts";
import { packBits, packedBytes, unpackBits } from "../../../core/quant/bits.ts";
import { fromLevels, type LevelBits, rangeOf, toLevels } from "../../../core/quant/levels.ts";
import { readJson, vectorSet } from "../../vectors.ts";

const published = { search: "matrix", floor: "reference" } as const;
const better = { search: "row", floor: "tiny" } as const;
const widths = { int5: 5, int6: 6, int8: 8 } as const;

Deno.test("golden quantisation: levels, scales, bits and weights are the script's", async (t) => {
  const set = vectorSet("quantisation");
  for (const id of set.ids.filter((id) => id.startsWith("quant_"))) {
    await t.step(id, () => {
      const { tensors } = set.read(id), w = tensors.get("in/w")!;
      const outputs = [...tensors.keys()].filter((name) => name !== "in/w");
      const read = new Set<string>();
      for (const [name, bits] of Object.entries(widths)) {
        const given = (what: string) => {
          const path = `out/${name}.${what}`, found = tensors.get(path);
          if (found) read.add(path);
          return found && Array.from(found.values, Number);
        };
        const made = toLevels(w.values as Float32Array, w.shape[1], bits, published);
        const levels = given("q");
        if (!levels) continue;
        assert.deepEqual(Array.from(made.levels), levels);
        assert.deepEqual(Array.from(made.scales), given("scale"));
        const packed = given("packed"), weights = given("dequant");
        if (packed && bits !== 8) {
          assert.deepEqual(Array.from(packBits(made.levels, bits)), packed);
          assert.deepEqual(unpackBits(Uint8Array.from(packed), bits, levels.length), made.levels);
        }
        if (weights) assert.deepEqual(Array.from(fromLevels(made)), weights);
      }
      assert.deepEqual([...read].toSorted(), outputs.toSorted());
    });
  }
});

interface Candidate {
  readonly percentile: number;
  readonly clip: number;
  readonly scale_fp16: number;
  readonly q: number[];
  readonly mse: number;
}

interface Worked {
  readonly row: number[];
  readonly cases: Record<"int5" | "int6", { candidates: Candidate[]; chosen_index: number }>;
  readonly small_row: { row: number[]; int5: Candidate };
  readonly per_row_demo: { row: number[]; candidates: Candidate[]; chosen_index: number };
  readonly fp16_examples: { x: number; fp16: number }[];
  readonly round_half_even: { x: number; r: number }[];
  readonly packing: Record<"int5" | "int6", { values: number[]; bytes: number[] }[]>;
  readonly int8_table: { rows: number[][]; scale_fp16: number[]; q: number[][] };
}

Deno.test("worked quantisation: candidates, the choice, and what they rest on", () => {
  const worked = readJson<Worked>("spec/gptq_lite.json");
  for (const { x, fp16 } of worked.fp16_examples) assert.equal(Math.f16round(x), fp16);
  for (const { x, r } of worked.round_half_even) assert.equal(roundEven(x), r);
  const checkRow = (
    row: number[],
    bits: LevelBits,
    candidates: readonly Candidate[],
    chosen: number,
  ) => {
    const weights = Float32Array.from(row);
    const make = (...percentiles: number[]) =>
      toLevels(weights, row.length, bits, published, percentiles);
    for (const { percentile, q, scale_fp16 } of candidates) {
      const { levels, scales } = make(percentile);
      assert.deepEqual([Array.from(levels), scales[0]], [q, scale_fp16], `at ${percentile}`);
    }
    const { levels, scales } = make(...candidates.map(({ percentile }) => percentile));
    const { q, scale_fp16 } = candidates[chosen];
    assert.deepEqual([Array.from(levels), scales[0]], [q, scale_fp16]);
  };
  for (const name of ["int5", "int6"] as const) {
    const { candidates, chosen_index } = worked.cases[name];
    checkRow(worked.row, widths[name], candidates, chosen_index);
    for (const { values, bytes } of worked.packing[name]) {
      const levels = Int8Array.from(values);
      assert.deepEqual(Array.from(packBits(levels, widths[name])), bytes);
      assert.deepEqual(unpackBits(Uint8Array.from(bytes), widths[name], values.length), levels);
    }
  }
  const { small_row: { row, int5 }, per_row_demo: demo } = worked;
  checkRow(row, 5, [{ ...int5, percentile: 1 }], 0);
  checkRow(demo.row, 5, demo.candidates, demo.chosen_index);
  const { rows, scale_fp16, q } = worked.int8_table;
  const table = toLevels(Float32Array.from(rows.flat()), rows[0].length, 8, published);
  assert.deepEqual(Array.from(table.scales), scale_fp16);
  assert.deepEqual(Array.from(table.levels), q.flat());
});

const bitsOf = fc.constantFrom<LevelBits>(5, 6, 8);

Deno.test("quantisation: a search by row leaves no more error than one by matrix", () => {
  const matrix = fc.integer({ min: 1, max: 17 }).chain((columns) =>
    fc.tuple(
      fc.constant(columns),
      fc.array(
        fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), {
          minLength: columns,
          maxLength: columns,
        }),
        { minLength: 1, maxLength: 5 },
      ),
    )
  );
  fc.assert(fc.property(matrix, bitsOf, ([columns, rows], bits) => {
    const weights = Float32Array.from(rows.flat());
    const errorOf = (search: "row" | "matrix") => {
      const made = fromLevels(toLevels(weights, columns, bits, { search, floor: "tiny" }));
      return made.reduce((sum, x, i) => sum + (x - weights[i]) ** 2, 0);
    };
    assert.ok(errorOf("row") <= errorOf("matrix") * (1 + 1e-12));
  }));
});

Deno.test("replay: llama2.c 532: int5 and int6 of any width come back within half a step", () => {
  for (const bits of [5, 6, 8] as const) {
    const range = rangeOf(bits);
    for (const columns of [1, 3, 4, 5, 7, 8, 9, 31, 33]) {
      const weights = Float32Array.from({ length: 3 * columns }, (_, i) => 0.01 * Math.sin(i + 1));
      const made = toLevels(weights, columns, bits, better, [1]);
      const back = { ...made, levels: unpackBits(packBits(made.levels, bits), bits, 3 * columns) };
      fromLevels(back).forEach((x, i) => {
        // half a step, and what f16 took from the scale at the largest level
        const scale = made.scales[Math.floor(i / columns)];
        const slack = scale * (0.5 + 2 ** -11 * range) + 2 ** -25 * range;
        assert.ok(Math.abs(x - weights[i]) <= slack, `${bits} bits, ${columns} columns, at ${i}`);
      });
    }
  }
});

Deno.test("quantisation: a row of zeros stays so; what is not finite, or beyond f16, is refused", () => {
  const make = (...row: number[]) => toLevels(Float32Array.from(row), row.length, 5, better);
  assert.deepEqual(Array.from(fromLevels(make(0, -0, 0)), Math.abs), [0, 0, 0]);
  for (const bad of [NaN, Infinity, -Infinity]) assert.throws(() => make(1, bad), /a weight is/);
  assert.throws(() => make(3e6, 1), /too large for f16/);
});

Deno.test("bits: any levels come back; bytes that no levels made are refused", () => {
  fc.assert(fc.property(bitsOf, fc.array(fc.integer({ min: -15, max: 15 })), (bits, values) => {
    const levels = Int8Array.from(values), bytes = packBits(levels, bits);
    assert.equal(bytes.length, packedBytes(values.length, bits));
    assert.deepEqual(unpackBits(bytes, bits, values.length), levels);
  }));
  assert.throws(() => unpackBits(new Uint8Array(2), 5, 2), /2 levels of 5 bits are not 2 bytes/);
  assert.throws(() => unpackBits(Uint8Array.of(0x1f, 0, 0, 0, 0), 5, 1), /code 31, above 30/);
});
