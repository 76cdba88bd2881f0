import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../../core/io/safetensors.ts";
import { groupTensors, tensorStats } from "../../../core/inspect/tensors.ts";
import { withTempDir } from "../../support.ts";

const role = "matrix", init = { kind: "constant", value: 0 } as const;

Deno.test("tensors: rms, largest, zeros and what is not finite, of every dtype and in any parts", () =>
  withTempDir(async (dir) => {
    const path = join(dir, "a.safetensors"), values = [3, -4, 0, 0];
    // the upper halves of f32: 1, -2, NaN, infinity
    const halves = Uint16Array.of(0x3f80, 0xc000, 0x7fc0, 0x7f80);
    const sources = [
      ["layers.0.up", "F32", Float32Array.from(values)],
      ["layers.1.up", "F32", Float32Array.from([6, 8, 0, -0])],
      ["half", "F16", Float16Array.of(1, -Infinity, NaN, 1)],
      ["brain", "BF16", halves],
      ["ids", "I64", BigInt64Array.of(1n, -7n, 0n, 0n)],
    ] as const;
    await writeSafetensors(
      path,
      sources.map(([name, dtype, data]) => ({ name, dtype, shape: [4], data: () => data })),
    );
    using file = openSafetensors(path);
    const params = [{ path: "layers.0.up", shape: [4], dtype: "f32", role, init } as const];
    const found = new Map([...tensorStats(file, params)].map((one) => [one.name, one]));
    const first = found.get("layers.0.up")!;
    assert.deepEqual([first.rms, first.max, first.zeros, first.mean], [2.5, 4, 2, -0.25]);
    assert.deepEqual([first.role, found.get("layers.1.up")!.role], ["matrix", undefined]);
    assert.equal(found.get("half")!.nonFinite, 2);
    assert.equal(found.get("half")!.rms, 1);
    const brain = found.get("brain")!;
    assert.deepEqual([brain.nonFinite, brain.max, brain.mean], [2, 2, -0.5]);
    assert.equal(found.get("ids")!.max, 7);
    const parts = [...file.chunks("layers.0.up", 3)].map((part) => [...part]);
    assert.deepEqual(parts, [[3, -4, 0], [0]]);
  }));

Deno.test("tensors: those of all layers are one line, but for what differs in role or dtype", () => {
  const stats = (name: string, rms: number, shape = [2, 2]) => ({
    name,
    dtype: "F32" as const,
    shape,
    role: "matrix" as const,
    count: 4,
    rms,
    max: 2 * rms,
    mean: 0,
    zeros: 1,
    nonFinite: rms === 3 ? 1 : 0,
  });
  const groups = groupTensors([
    stats("layers.0.up", 1),
    stats("layers.1.up", 3),
    { ...stats("layers.2.up", 1), role: undefined },
    stats("head10.w", 1),
  ]);
  assert.deepEqual(groups.map(({ pattern, tensors }) => [pattern, tensors]), [
    ["layers.*.up", 2],
    ["layers.2.up", 1],
    ["head10.w", 1],
  ]);
  const [{ rms, max, nonFinite, zeros, count }] = groups;
  assert.deepEqual([rms, max, nonFinite, zeros, count], [[1, 3], 6, 1, 2, 8]);
});
