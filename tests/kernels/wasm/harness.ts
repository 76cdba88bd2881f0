/**
 * Runs an op's WASM jobs on one thread, as a pool of one member or of three would, and holds them
 * against the reference loop in doubles. All memory starts as NaN, so what is read before it is
 * written, or past its end, shows.
 */

import assert from "node:assert/strict";
import { packHalves, roundBf16, unpackHalves } from "../../../core/graph/halves.ts";
import { type Attrs, bytesOf, sizeOf, type Spec, spec } from "../../../core/graph/tensor.ts";
import type {
  CpuJob,
  CpuLowering,
  CpuTarget,
  GemmJob,
  Kernel,
  Operand,
  WasmJob,
} from "../../../kernels/lowering.ts";
import { encodeKernels } from "../../../kernels/wasm/encode.ts";

/** An input: its spec and its values. */
export interface Sample extends Spec {
  readonly values: Float64Array;
}

/**
 * Uniform numbers in (−1, 1) that depend on the seed only; what bf16 cannot hold is rounded away
 * for bf16 samples.
 */
export function sample(
  shape: readonly number[],
  seed: number,
  dtype: "f32" | "bf16" = "f32",
): Sample {
  let state = Math.imul(seed + 1, 0x9e3779b9) | 1;
  const round = dtype === "bf16" ? roundBf16 : Math.fround;
  const values = Float64Array.from({ length: sizeOf(shape) }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return round(state / 2 ** 31);
  });
  return { ...spec(shape, dtype), values };
}

export function integers(shape: readonly number[], values: ArrayLike<number>): Sample {
  return { ...spec(shape, "i32"), values: Float64Array.from(values) };
}

export const plain: CpuTarget = { threads: 1, relaxed: true, blas: false };

interface Arena {
  readonly buffer: SharedArrayBuffer;
  readonly memory: WebAssembly.Memory;
  place(bytes: number): number;
}

const slackBytes = 64;

function arenaOf(bytes: number): Arena {
  const pages = Math.ceil(bytes / 65536) + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  new Uint8Array(memory.buffer).fill(0xff);
  let next = 64;
  return {
    memory,
    buffer: memory.buffer as unknown as SharedArrayBuffer,
    place(size) {
      const at = next;
      next = Math.ceil((next + size + slackBytes) / 64) * 64;
      return at;
    },
  };
}

function store(buffer: SharedArrayBuffer, at: number, { dtype, values }: Sample): void {
  const n = values.length;
  if (dtype === "f32") new Float32Array(buffer, at, n).set(values);
  else if (dtype === "i32" || dtype === "u32") new Int32Array(buffer, at, n).set(values);
  else new Uint32Array(buffer, at, Math.ceil(n / 2)).set(packHalves(dtype, values));
}

type WasmKernel = (args: number, begin: number, end: number, scratch: number) => void;

/** A node laid out in memory, ready to run any number of times. */
export interface Loaded {
  readonly lowering: CpuLowering;
  /** All jobs in order, each split over this many members. */
  run(members?: number): void;
  /** Throws if anything was written past the end of an output. */
  assertInside(): void;
  /** Copies of what the outputs hold now. */
  readonly outputs: readonly Float32Array[];
}

export function load(
  op: Kernel,
  inputs: readonly Sample[],
  attrs: Attrs,
  target = plain,
): Loaded | undefined {
  const outputs = op.check(inputs, attrs), lowering = op.wasm?.({ inputs, outputs, attrs }, target);
  if (!lowering) return undefined;
  const scratchBytes = lowering.scratchBytes ?? [],
    memberBytes = lowering.memberBytes ?? 0,
    members = 3;
  const sizes = [
    ...[...inputs, ...outputs].map(bytesOf),
    ...scratchBytes,
    ...Array(members).fill(memberBytes),
  ];
  const words = lowering.jobs.reduce((sum, job) => sum + ("fn" in job ? job.args.length : 0), 0);
  const arena = arenaOf(sizes.reduce((sum, size) => sum + size + 2 * slackBytes, 4 * words + 4096));
  const inputPlaces = inputs.map((x) => arena.place(bytesOf(x)));
  const places = {
    input: inputPlaces,
    output: outputs.map((x, n) => {
      const over = op.inplace?.[n];
      return over === undefined ? arena.place(bytesOf(x)) : inputPlaces[over];
    }),
    scratch: scratchBytes.map((size) => arena.place(size)),
  };
  const scratch = Array.from({ length: members }, () => arena.place(memberBytes));
  const storeInputs = () => inputs.forEach((x, n) => store(arena.buffer, places.input[n], x));
  storeInputs();
  const address = ({ from, index }: Operand) => places[from][index];
  const kernels = lowering.jobs.flatMap((job) => "fn" in job ? [job.fn] : []);
  const module = new WebAssembly.Module(encodeKernels(kernels, arena.buffer.byteLength / 65536));
  const { exports } = new WebAssembly.Instance(module, { env: { memory: arena.memory } });
  const prepare = (job: CpuJob) => {
    if (!("fn" in job)) return () => runGemm(arena.buffer, job, address);
    const at = writeArguments(arena, job, address), call = exports[job.fn.key] as WasmKernel;
    return (count: number) => {
      // The last share first: what a member writes past its share would spoil what is there
      // already.
      for (let member = count - 1; member >= 0; member--) {
        const share = (p: number) => Math.floor((p * job.units) / count);
        call(at, share(member), share(member + 1), scratch[member]);
      }
    };
  };
  const steps = lowering.jobs.map(prepare);
  return {
    lowering,
    run(count = 1) {
      if (op.inplace) storeInputs();
      for (const step of steps) step(count);
    },
    assertInside() {
      outputs.forEach((x, n) => {
        const after = new Uint8Array(arena.buffer, places.output[n] + bytesOf(x), slackBytes);
        assert.ok(after.every((byte) => byte === 0xff), `${op.name} wrote past output ${n}`);
      });
    },
    get outputs() {
      return outputs.map((x, n) => read(arena.buffer, places.output[n], x));
    },
  };
}

/** A copy of what is stored, as plain numbers; integers as they are. */
function read(buffer: SharedArrayBuffer, at: number, { shape, dtype }: Spec): Float32Array {
  const size = sizeOf(shape);
  if (dtype === "i32") return Float32Array.from(new Int32Array(buffer, at, size));
  if (dtype === "u32") return Float32Array.from(new Uint32Array(buffer, at, size));
  if (dtype === "f32") return new Float32Array(buffer, at, size).slice();
  return unpackHalves(dtype, new Uint32Array(buffer, at, Math.ceil(size / 2)).slice(), size);
}

function writeArguments(arena: Arena, job: WasmJob, address: (operand: Operand) => number): number {
  const at = arena.place(4 * job.args.length), view = new DataView(arena.buffer);
  job.args.forEach((arg, n) => {
    if (typeof arg === "number") view.setUint32(at + 4 * n, arg, true);
    else if ("f32" in arg) view.setFloat32(at + 4 * n, arg.f32, true);
    else view.setUint32(at + 4 * n, address(arg), true);
  });
  return at;
}

/** What a BLAS does, by the plain loop. */
function runGemm(
  buffer: SharedArrayBuffer,
  { gemm, a, b, c, offsets }: GemmJob,
  address: (operand: Operand) => number,
): void {
  const [A, B, C] = [a, b, c].map((x, n) => new Float32Array(buffer, address(x) + 4 * offsets[n]));
  const { m, n, k, transA, transB, lda, ldb, ldc, accumulate } = gemm;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = accumulate ? C[i * ldc + j] : 0;
      for (let l = 0; l < k; l++) {
        sum += A[transA ? l * lda + i : i * lda + l] * B[transB ? j * ldb + l : l * ldb + j];
      }
      C[i * ldc + j] = sum;
    }
  }
}

/**
 * Checks an op's WASM form against its reference in doubles, and that three members give the bits
 * of one. `tolerance` is a share of each output's largest value, or of 0.1 where that is larger
 * (differences that cancel).
 */
export function checkWasm(
  op: Kernel,
  inputs: readonly Sample[],
  attrs: Attrs,
  tolerance = 1e-5,
  target = plain,
): void {
  const outputs = op.check(inputs, attrs),
    expected = outputs.map((x) => new Float64Array(sizeOf(x.shape)));
  op.reference(inputs.map((x) => x.values), expected, { inputs, outputs, attrs });
  const loaded = load(op, inputs, attrs, target);
  assert.ok(loaded, `${op.name} has no WASM form for this`);
  loaded.run(1);
  const whole = loaded.outputs;
  loaded.run(3);
  const split = loaded.outputs;
  loaded.assertInside();
  const label = `${op.name} ${inputs.map((x) => `[${x.shape}]`).join(" ")} ${
    JSON.stringify(attrs)
  }`;
  whole.forEach((values, n) => {
    const top = expected[n].reduce((max, x) => Math.max(max, Math.abs(x)), 0.1);
    const worst = values.reduce((max, x, i) => {
      const error = Math.abs(x - expected[n][i]) / top;
      return error <= max ? max : error; // NaN wins
    }, 0);
    const allowed = tolerance + (outputs[n].dtype === "bf16" ? 2 ** -8 : 0); // half a last place
    assert.ok(worst <= allowed, `${label}: output ${n} is off by ${worst} of its largest value`);
    const bits = (x: Float32Array) => new Int32Array(x.slice().buffer);
    assert.deepEqual(
      bits(split[n]),
      bits(values),
      `${label}: output ${n} depends on the split`,
    );
  });
}
