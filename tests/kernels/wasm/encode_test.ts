import assert from "node:assert/strict";
import fc from "fast-check";
import {
  defineHelper,
  encodeModule,
  f32,
  f32x4,
  FunctionBuilder,
  i32,
  i32x4,
  madd,
  signed,
  unsigned,
  v128,
} from "../../../kernels/wasm/encode.ts";

type Kernel = (args: number, begin: number, end: number, scratch: number) => void;

/** Builds one kernel on a memory of one page and returns it with its views. */
function compile(write: (f: FunctionBuilder) => void) {
  const builder = new FunctionBuilder();
  write(builder);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const module = new WebAssembly.Module(encodeModule([{ name: "kernel", builder }], 1));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return {
    run: exports.kernel as Kernel,
    ints: new Int32Array(memory.buffer),
    floats: new Float32Array(memory.buffer),
    bytes: new Uint8Array(memory.buffer),
  };
}

Deno.test("leb128: every 32-bit integer reads back", () => {
  const decode = (bytes: number[]) =>
    bytes.reduce((sum, byte, n) => sum + (byte & 0x7f) * 2 ** (7 * n), 0);
  fc.assert(fc.property(fc.nat(0xffffffff), (x) => decode(unsigned(x)) === x));
  fc.assert(fc.property(fc.integer(), (x) => {
    const bytes = signed(x), range = 2 ** (7 * bytes.length), value = decode(bytes);
    return (value >= range / 2 ? value - range : value) === x;
  }));
  assert.deepEqual(signed(0xffffffff), [0x7f]);
});

Deno.test("FunctionBuilder: arguments, constants, loops and stores", () => {
  const { run, ints, floats } = compile((f) => {
    const out = f.arg(0),
      x = f.arg(1),
      scale = f32x4.splat(f.argF32(2)),
      half = f.constant(0.5),
      i = f.i32();
    f.forRange(i, i32.shl(f.begin, 2), i32.shl(f.end, 2), 16, () => {
      f.store(i32.add(out, i), madd(true)(v128.load(i32.add(x, i)), scale, half));
    });
    f.storeI32(f.scratch, i);
  });
  ints.set([1024, 2048]);
  floats[2] = 3;
  floats.set([1, 2, 3, 4, 5, 6, 7, 8], 512);
  run(0, 0, 8, 4096);
  assert.deepEqual([...floats.slice(256, 265)], [3.5, 6.5, 9.5, 12.5, 15.5, 18.5, 21.5, 24.5, 0]);
  assert.equal(ints[1024], 32);
  run(0, 4, 4, 4096); // an empty range does nothing
  assert.equal(ints[1024], 16);
});

Deno.test("forRange: addresses above 2 GiB are larger, not negative", () => {
  const { run, ints } = compile((f) => {
    const i = f.i32(), rounds = f.i32(0);
    f.forRange(i, 0x7ffffff0, 0x80000010, 8, () => f.advance(rounds, 1));
    f.storeI32(f.scratch, rounds);
  });
  run(0, 0, 0, 64);
  assert.equal(ints[16], 4);
});

Deno.test("opcodes: what each computes", () => {
  const { run, ints, floats, bytes } = compile((f) => {
    const a = f.v128(v128.load(0)), b = f.v128(v128.load(16)), n = f.i32(-7);
    const vectors = [
      f32x4.pmin(a, b),
      f32x4.pmax(a, b),
      v128.bitselect(a, b, f32x4.lt(a, b)),
      v128.shuffle32(a, b, [0, 4, 3, 7]),
      i32x4.shl(v128.load16x4u(32), 16),
      f32x4.convertI32x4S(i32x4.truncF32x4S(a)),
      f32x4.replaceLane(a, 2, f32.sqrt(f32.const(16))),
      v128.load64Zero(0),
      v128.load32Splat(4),
      v128.load32Lane(16, a, 1),
      i32x4.sub(i32x4.splat(n), f.constantI32(1)),
      f32x4.sqrt(f32x4.abs(f32x4.neg(f.constants([1, 4, 9, 16])))),
    ];
    vectors.forEach((value, at) => f.store(1024 + 16 * at, value));
    f.store32Lane(2048, b, 3);
    f.storeI32(2052, i32.shrS(n, 1));
    f.storeI32(2056, i32.minS(n, 3));
    f.storeF32(2060, f32.select(i32.ltU(n, 3), 1, 2));
    f.store16(2064, i32.const(0x12345));
    f.if(i32.ltS(n, 0), () => f.storeI32(2068, 1), () => f.storeI32(2068, 2));
    f.while(i32.ltS(n, 0), () => f.advance(n, 2));
    f.storeI32(2072, n);
  });
  floats.set([1.5, -2, 3, -4, 2, -3, 1, 8]);
  bytes.set(
    new Uint8Array(new Float32Array([1, -2, 0.5, 256]).buffer).filter((_, n) => n % 4 >= 2),
    32,
  );
  run(0, 0, 0, 0);
  const row = (n: number) => [...floats.slice(256 + 4 * n, 260 + 4 * n)];
  assert.deepEqual(row(0), [1.5, -3, 1, -4]);
  assert.deepEqual(row(1), [2, -2, 3, 8]);
  assert.deepEqual(row(2), [1.5, -3, 1, -4]);
  assert.deepEqual(row(3), [1.5, 2, -4, 8]);
  assert.deepEqual(row(4), [1, -2, 0.5, 256]);
  assert.deepEqual(row(5), [1, -2, 3, -4]);
  assert.deepEqual(row(6), [1.5, -2, 4, -4]);
  assert.deepEqual(row(7), [1.5, -2, 0, 0]);
  assert.deepEqual(row(8), [-2, -2, -2, -2]);
  assert.deepEqual(row(9), [1.5, 2, 3, -4]);
  assert.deepEqual([...ints.slice(256 + 40, 256 + 44)], [-8, -8, -8, -8]);
  assert.deepEqual(row(11), [1, 2, 3, 4]);
  assert.equal(floats[512], 8);
  assert.deepEqual([...ints.slice(513, 515)], [-4, -7]);
  assert.equal(floats[515], 2);
  assert.deepEqual([...ints.slice(516, 519)], [0x2345, 1, 1]);
});

Deno.test("helpers: are emitted once, may call others, and take numbers", () => {
  const addTo = defineHelper({
    key: "addTo",
    params: ["i32", "f32"],
    build: (f, at, x) => f.storeF32(at, f32.add(f32.load(at), x)),
  });
  const twice = defineHelper({
    key: "twice",
    params: ["i32"],
    build(f, at) {
      f.call(addTo, at, 1.5);
      f.call(addTo, at, f32.const(2));
    },
  });
  const { run, floats } = compile((f) => {
    f.call(twice, f.scratch);
    f.call(addTo, i32.add(f.scratch, 4), 1);
  });
  run(0, 0, 0, 64);
  assert.deepEqual([...floats.slice(16, 18)], [3.5, 1]);
});
