import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { packHalves } from "../../../core/graph/mod.ts";
import {
  openSafetensors,
  type SafetensorsDtype,
  tensorBytes,
  writeSafetensors,
} from "../../../core/io/safetensors.ts";
import { testWithShared, withTempDir } from "../../support.ts";

const dtypes: SafetensorsDtype[] = ["F64", "F32", "F16", "BF16", "I64", "I32", "U32", "U8"];

/** The bytes of a file with this header text and this much data. */
function fileOf(header: string | object, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(
    typeof header === "string" ? header : JSON.stringify(header),
  );
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

async function refuses(bytes: Uint8Array, message: RegExp): Promise<void> {
  await withTempDir(async (dir) => {
    const path = `${dir}/x.safetensors`;
    await Deno.writeFile(path, bytes);
    assert.throws(() => openSafetensors(path), { name: "UserError", message, where: path });
  });
}

const tensorsArbitrary = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, unit: "grapheme" }).filter((n) =>
      n !== "__metadata__" && n !== "__proto__"
    ),
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 3 }),
    fill: fc.nat({ max: 255 }),
  }),
  { selector: (t) => t.name, maxLength: 6 },
);

Deno.test("safetensors: what is written is read back, whatever the names, dtypes and shapes", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/x.safetensors`;
    await fc.assert(
      fc.asyncProperty(tensorsArbitrary, async (tensors) => {
        const bytesOf = (t: typeof tensors[number]) =>
          new Uint8Array(tensorBytes(t)).map((_, i) => (t.fill + i) & 255);
        await writeSafetensors(path, tensors.map((t) => ({ ...t, data: () => bytesOf(t) })), {
          note: "ümlaut",
        });
        using file = openSafetensors(path);
        assert.deepEqual({ ...file.metadata }, { note: "ümlaut" });
        assert.equal(file.tensors.size, tensors.length);
        for (const t of tensors) {
          const { dtype, shape } = file.tensors.get(t.name)!;
          assert.deepEqual({ dtype, shape }, { dtype: t.dtype, shape: t.shape });
          const data = file.read(t.name);
          const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
          assert.deepEqual(bytes, bytesOf(t));
        }
      }),
      { numRuns: 60 },
    );
  });
});

Deno.test("safetensors: values keep their type; the header is padded to eight bytes", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/x.safetensors`;
    await writeSafetensors(path, [
      { name: "half", dtype: "F16", shape: [3], data: () => new Float16Array([1, -2.5, 65504]) },
      {
        name: "long",
        dtype: "I64",
        shape: [],
        data: () => Promise.resolve(new BigInt64Array([-7n])),
      },
    ]);
    const headerBytes = new DataView((await Deno.readFile(path)).buffer).getBigUint64(0, true);
    assert.equal(headerBytes % 8n, 0n);
    using file = openSafetensors(path);
    assert.deepEqual([...file.tensors.keys()], ["long", "half"]); // wide first: aligned
    assert.deepEqual(file.read("half"), new Float16Array([1, -2.5, 65504]));
    assert.deepEqual(file.read("long"), new BigInt64Array([-7n]));
    assert.throws(() => file.read("none"), /no tensor named none/);
  });
});

Deno.test("safetensors: data of the wrong size is refused while writing", async () => {
  await withTempDir(async (dir) => {
    const tensor = { name: "w", dtype: "F32", shape: [3] } as const;
    const write = writeSafetensors(`${dir}/x`, [{ ...tensor, data: () => new Float32Array(2) }]);
    await assert.rejects(write, /w is F32 \[3\], 12 bytes, but 8 bytes came/);
  });
});

Deno.test("safetensors: damaged files are refused, each with its reason", async () => {
  const f32 = (begin: number, end: number) => ({
    dtype: "F32",
    shape: [1],
    data_offsets: [begin, end],
  });
  await refuses(new Uint8Array(3), /inside the header's length/);
  await refuses(
    fileOf({ a: f32(0, 4) }, 4).slice(0, 20),
    /header claims .* but the file ends after 20/,
  );
  await refuses(fileOf({ a: f32(0, 4) }, 2), /ends at byte 4 of the data but the file holds 2/);
  await refuses(fileOf({ a: f32(0, 4) }, 9), /5 bytes follow its last tensor/);
  await refuses(fileOf({ a: f32(0, 4), b: f32(2, 6) }, 6), /b overlaps a/);
  await refuses(fileOf({ a: f32(0, 4), b: f32(6, 10) }, 10), /2 bytes between a and b are unused/);
  await refuses(fileOf({ a: f32(0, 8) }, 8), /4 bytes, but has 8/);
  await refuses(fileOf({ a: { ...f32(0, 4), dtype: "F9" } }, 4), /dtype "F9"/);
  await refuses(fileOf({ a: { ...f32(0, 4), shape: [-1] } }, 4), /the shape \[-1\]/);
  await refuses(fileOf("{ a: 1 }", 0), /not JSON/);
  await refuses(fileOf("[]", 0), /not a JSON object/);
  const one = JSON.stringify(f32(0, 4));
  await refuses(fileOf(`{"a":${one},"\\u0061":${one}}`, 4), /a stands twice/);
  const huge = new Uint8Array(16);
  new DataView(huge.buffer).setBigUint64(0, 1n << 60n, true);
  await refuses(huge, /its header claims/);
});

Deno.test("safetensors: headers of any length and depth are read or refused in a line", async () => {
  const empty = { dtype: "F32", shape: [0], data_offsets: [0, 0] };
  const long = '"x\\'.repeat(1e6);
  await withTempDir(async (dir) => {
    const path = `${dir}/x.safetensors`;
    await Deno.writeFile(path, fileOf({ __metadata__: { long }, a: empty }, 0));
    using file = openSafetensors(path);
    assert.equal(file.metadata.long, long);
  });
  const deep = "[".repeat(1e5) + "]".repeat(1e5);
  const refused: readonly (readonly [string | object, RegExp])[] = [
    [{ [long]: empty }, /^.{0,80}it names a tensor .{80} …$/],
    [{ "a\u001b[2J": empty }, /it names a tensor "a\\u001b\[2J"$/],
    [`{"a":{"dtype":"F32","shape":${deep},"data_offsets":[0,0]}}`, /has the shape \[+…\]+$/],
    [`{"a":{"dtype":${deep},"shape":[0],"data_offsets":[0,0]}}`, /has dtype \[+…\]+; known/],
    [{ a: { ...empty, shape: new Array(1e5).fill(0) } }, /has the shape \[[0,]+ …$/],
    [{ a: { ...empty, shape: [2 ** 53 - 1, 2 ** 53 - 1] } }, /bytes, but has 0$/],
    [{ a: { ...empty, data_offsets: [2 ** 53, 2 ** 53] } }, /has the offsets/],
  ];
  for (const [header, message] of refused) await refuses(fileOf(header, 0), message);
});

testWithShared("safetensors: a file written by another program is read", [
  "vectors/common/act_silu.safetensors",
], ([path]) => {
  using file = openSafetensors(path);
  for (const [name, { shape }] of file.tensors) {
    assert.equal(file.read(name).length, shape.reduce((a, b) => a * b, 1));
  }
});

Deno.test("safetensors: floats of any width are read into memory of the caller's, from any element on", async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, "some.safetensors"), count = 2 ** 16 + 3;
    const values = Float32Array.from({ length: count }, (_, i) => i % 251 - 100);
    const bits = new Uint16Array(packHalves("bf16", values).buffer, 0, count);
    const forms = {
      F32: values,
      F64: Float64Array.from(values),
      F16: Float16Array.from(values),
      BF16: bits,
    };
    const tensors = Object.entries(forms).map(([dtype, data]) => ({
      name: dtype,
      dtype: dtype as keyof typeof forms,
      shape: [count],
      data: () => data,
    }));
    await writeSafetensors(path, [...tensors, {
      name: "I32",
      dtype: "I32",
      shape: [1],
      data: () => Int32Array.of(1),
    }]);
    using file = openSafetensors(path);
    const shared = new Float32Array(new SharedArrayBuffer(4 * count + 64), 64, count);
    for (const name of Object.keys(forms)) {
      file.readInto(name, shared, 0);
      assert.deepEqual(Float32Array.from(shared), values, name);
      const few = new Float32Array(5);
      file.readInto(name, few, count - 5);
      assert.deepEqual(few, values.slice(-5), name);
      assert.throws(() => file.readInto(name, few, count - 4), /ends before/);
    }
    assert.throws(() => file.readInto("I32", new Float32Array(1), 0), /no float/);
    const halves = new Uint16Array(count - 2);
    file.readBf16Into("BF16", halves, 2);
    assert.deepEqual([file.storesBf16("BF16"), file.storesBf16("F16")], [true, false]);
    assert.deepEqual(halves, bits.slice(2));
    assert.throws(() => file.readBf16Into("BF16", halves, 3), /ends before/);
    assert.throws(() => file.readBf16Into("F16", halves, 0), /F16 is F16/);
  });
});
