import assert from "node:assert/strict";
import fc from "fast-check";
import { zstdCompressSync } from "node:zlib";
import { decodeArtifact, encodeArtifact, packings } from "../../../core/quant/artifact.ts";
import {
  compress,
  type Compression,
  compressions,
  decompress,
} from "../../../core/quant/compression.ts";
import { type Form, forms, publishedForms, restore, store } from "../../../core/quant/forms.ts";
import { UserError } from "../../../core/io/errors.ts";

const better = { search: "row", floor: "tiny" } as const;

function tensor(name: string, shape: readonly number[], form: Form, seed = 1) {
  const size = shape.reduce((product, n) => product * n, 1);
  const values = Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i * i) / 3);
  return store({ name, shape, read: () => values }, form, better);
}

Deno.test("artifact: tensors of every form and shape come back, however packed and compressed", () => {
  const shape = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 3 });
  const some = fc.array(fc.tuple(shape, fc.constantFrom(...forms)), { maxLength: 5 });
  const packed = fc.constantFrom(...packings);
  const comeBack = (compression: Compression) =>
    fc.property(some, packed, (described, packing) => {
      const tensors = described.map(([shape, form], i) => tensor(`t.${i}`, shape, form, i));
      const facts = { step: 3, name: "né" };
      const { bytes } = encodeArtifact({ facts, tensors }, packing, [compression]);
      const back = decodeArtifact(bytes, "a.quern");
      assert.deepEqual(back.facts, facts);
      assert.deepEqual(back.tensors.map(restore), tensors.map(restore));
      assert.deepEqual(
        back.tensors.map(({ name, shape, form }) => [name, shape, form]),
        tensors.map(({ name, shape, form }) => [name, shape, form]),
      );
    });
  fc.assert(comeBack("zstd"), { numRuns: 60 });
  fc.assert(comeBack("lzma"), { numRuns: 6 }); // a tenth of a second each, however little there is
});

Deno.test("artifact: the compression that leaves less is kept", () => {
  const tensors = [tensor("a", [64, 65], "int5"), tensor("b", [7], "f16")];
  const { tried, bodyBytes, compression } = encodeArtifact({ facts: {}, tensors });
  const sizes = compressions.map((name) => tried[name]!);
  assert.equal(bodyBytes, Math.min(...sizes));
  assert.equal(tried[compression], bodyBytes);
  assert.ok(bodyBytes < 64 * 65 * 5 / 8 * 1.05, `${bodyBytes}`); // near the entropy of 31 levels
});

Deno.test("artifact: a file that claims what it does not hold is refused before memory is taken", () => {
  const { bytes } = encodeArtifact({ facts: {}, tensors: [tensor("a", [3, 5], "int6")] });
  const decode = (changed: Uint8Array) => decodeArtifact(changed, "a.quern");
  const headerLength = new DataView(bytes.buffer).getUint32(8, true);
  const withHeader = (header: unknown) => {
    const head = zstdCompressSync(new TextEncoder().encode(JSON.stringify(header)));
    const made = new Uint8Array(12 + head.length + bytes.length - 12 - headerLength);
    made.set(bytes.subarray(0, 8));
    new DataView(made.buffer).setUint32(8, head.length, true);
    made.set(head, 12);
    made.set(bytes.subarray(12 + headerLength), 12 + head.length);
    return made;
  };
  const body = { compression: "zstd", bytes: 21, sha256: "0" };
  const header = { format: "quern-artifact", version: 1, facts: {}, packing: "bytes", body };
  const a = { name: "a", shape: [3, 5], form: "int6" };
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(4), /does not begin with QUERNART/],
    [bytes.subarray(0, 10), /cut short/],
    [bytes.subarray(0, 20), /cut short within its header/],
    [bytes.subarray(0, bytes.length - 1), /tensors are damaged/],
    [withHeader("x"), /header is damaged/],
    [withHeader({ ...header, tensors: [a], more: 1 }), /header is damaged/],
    [withHeader({ ...header, tensors: [a, a] }), /holds a twice/],
    [withHeader({ ...header, tensors: [{ ...a, shape: [2 ** 30, 2 ** 30] }] }), /a is \[/],
    [withHeader({ ...header, tensors: [{ ...a, shape: [3, 500] }] }), /take 1506 bytes, .* 21/],
    [withHeader({ ...header, tensors: [a] }), /tensors are damaged/],
    [
      withHeader({
        ...header,
        tensors: [{ ...a, shape: [2 ** 20, 2 ** 12], form: "int8" }],
        body: { ...body, bytes: 2 ** 32 + 2 ** 21 },
      }),
      /bytes are to become 4297064448/,
    ],
  ];
  for (const [changed, message] of cases) {
    assert.throws(() => decode(changed), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, message);
      assert.equal(error.where, "a.quern");
      return true;
    });
  }
});

Deno.test("artifact: LZMA takes no more memory for its dictionary than what it holds", () => {
  const plain = Uint8Array.from({ length: 5000 }, (_, i) => i % 7);
  const bytes = compress(plain, "lzma");
  new DataView(bytes.buffer).setUint32(1, 0xffffffff, true);
  const { external } = Deno.memoryUsage();
  assert.deepEqual(decompress(bytes, "lzma", plain.length), plain);
  assert.ok(Deno.memoryUsage().external - external < 2 ** 28);
});

Deno.test("artifact: of a published model matrices are int5, tables int8, and what is small f16", () => {
  const params = [
    { name: "input.embedding", shape: [1024, 512], role: "embedding" },
    { name: "input.bigram.projection", shape: [512, 128], role: "matrix" },
    { name: "layers.0.mlp.up", shape: [1536, 512], role: "matrix" },
    { name: "norm", shape: [512], role: "gain" },
  ];
  assert.deepEqual([...publishedForms(params).values()], ["int8", "f16", "int5", "f16"]);
});
