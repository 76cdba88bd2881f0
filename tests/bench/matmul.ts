/**
 * f32 matrix products on one core: ours in WASM, a system BLAS through FFI, and jax-js's wasm
 * backend, taking turns in one run.
 *
 *     deno run -A tests/bench/matmul.ts
 */

import { openCpu } from "../../core/device/cpu/device.ts";
import type { Device } from "../../core/device/mod.ts";
import { type Tensor, trace } from "../../core/graph/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import { matmul, matmulOp } from "../../kernels/matmul.ts";
import { load, sample } from "../kernels/wasm/harness.ts";
import { type Contender, interleave, timed, type Timing } from "./interleave.ts";

export interface MatmulRow {
  readonly form: string;
  /** GFLOP/s, median. */
  readonly wasm: number;
  readonly blas?: number;
  readonly jax?: number;
}

interface Shape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transA: boolean;
  readonly transB: boolean;
}

const square = (n: number): Shape => ({ m: n, n, k: n, transA: false, transB: false });
export const squares = [square(256), square(512), square(1024)];
/** A training step's: linear forward, its two gradients, a head, and decoding. */
export const trainingShapes: Shape[] = [
  { m: 2048, n: 688, k: 256, transA: false, transB: true },
  { m: 2048, n: 256, k: 688, transA: false, transB: false },
  { m: 688, n: 256, k: 2048, transA: true, transB: false },
  { m: 2048, n: 4096, k: 256, transA: false, transB: true },
  { m: 8, n: 4096, k: 256, transA: false, transB: true },
  { m: 16, n: 4096, k: 256, transA: false, transB: true },
  { m: 1, n: 4096, k: 1024, transA: false, transB: true },
  { m: 1, n: 4096, k: 1024, transA: false, transB: false },
];

type Sgemm = (shape: Shape, a: Float32Array, b: Float32Array, c: Float32Array) => void;

/** OpenBLAS on one thread, as it comes: these variables change its speed and its bits. */
function openBlas(): Sgemm | undefined {
  for (const name of ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]) Deno.env.delete(name);
  try {
    const { symbols } = Deno.dlopen("libopenblas.so.0", {
      openblas_set_num_threads: { parameters: ["i32"], result: "void" },
      cblas_sgemm: {
        // order, transA, transB, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc
        // deno-fmt-ignore
        parameters: ["i32", "i32", "i32", "i32", "i32", "i32", "f32", "buffer", "i32", "buffer", "i32", "f32", "buffer", "i32"],
        result: "void",
      },
    });
    symbols.openblas_set_num_threads(1);
    const bytes = (x: Float32Array) => new Uint8Array(x.buffer as ArrayBuffer);
    return ({ m, n, k, transA, transB }, a, b, c) => {
      const [ta, tb] = [transA ? 112 : 111, transB ? 112 : 111];
      const lda = transA ? m : k, ldb = transB ? k : n;
      // deno-fmt-ignore
      symbols.cblas_sgemm(101, ta, tb, m, n, k, 1, bytes(a), lda, bytes(b), ldb, 0, bytes(c), n);
    };
  } catch {
    return undefined;
  }
}

/** jax-js in a child process; answers `undefined` once it has been silent for ten seconds. */
export class JaxChild {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #silent = false;

  constructor(threads: number) {
    const script = new URL("./jax_child.ts", import.meta.url).pathname;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", script, `${threads}`],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async time(n: number): Promise<number | undefined> {
    if (this.#silent) return undefined;
    const limit = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => limit.resolve(undefined), 10_000);
    await this.#writer.write(new TextEncoder().encode(`${n}\n`));
    const answer = await Promise.race([this.#lines.read(), limit.promise]);
    clearTimeout(timer);
    this.#silent = !answer?.value;
    return answer?.value ? Number(answer.value) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill();
    await this.#process.status;
  }
}

export async function benchMatmul(shapes: readonly Shape[], rounds = 15): Promise<MatmulRow[]> {
  const sgemm = openBlas(), rows: MatmulRow[] = [];
  await using jax = new JaxChild(1);
  for (const shape of shapes) {
    const { m, n, k, transA, transB } = shape;
    const a = sample(transA ? [k, m] : [m, k], 1), b = sample(transB ? [n, k] : [k, n], 2);
    const ours = load(matmulOp, [a, b], { transA, transB })!;
    const contenders: Record<string, Contender> = { wasm: timed(() => ours.run()) };
    if (sgemm) {
      const [A, B, C] = [a.values, b.values, m * n].map((x) => new Float32Array(x as Float64Array));
      contenders.blas = timed(() => sgemm(shape, A, B, C));
    }
    const isSquare = m === n && n === k && !transA && !transB;
    if (isSquare) contenders.jax = () => jax.time(n);
    const timings = await interleave(contenders, { rounds });
    const speed = (timing?: Timing) => timing && 2 * m * n * k / timing.median / 1e6;
    const form = `${transA ? "T" : "N"}${transB ? "T" : "N"} ${m},${n},${k}`;
    rows.push({
      form,
      wasm: speed(timings.wasm)!,
      blas: speed(timings.blas),
      jax: speed(timings.jax),
    });
  }
  return rows;
}

export interface PoolRow {
  readonly n: number;
  /** GFLOP/s, median: the cpu device on one member and on two, jax-js told of two processors. */
  readonly one: number;
  readonly two: number;
  readonly jax?: number;
}

/**
 * Square products as the cpu device runs them, so that the pool's cost is in them. Two members need
 * two idle processors.
 */
export async function benchPool(sizes: readonly number[], rounds = 15): Promise<PoolRow[]> {
  const rows: PoolRow[] = [];
  await using one = await openCpu({ threads: 1, blas: "off" });
  await using two = await openCpu({ threads: 2, blas: "off" });
  await using jax = new JaxChild(2);
  for (const n of sizes) {
    const matrix = { shape: [n, n], dtype: "f32" as const };
    const graph = trace(
      ({ x, w }: Record<string, Tensor>) => ({ state: { y: matmul(x, w) } }),
      { state: { x: matrix, w: matrix, y: matrix }, batch: {} },
    );
    using disposables = new DisposableStack();
    const start = async (device: Device): Promise<Contender> => {
      const plan = planGraph(graph, device.target);
      const state = disposables.use(device.createState(plan.state));
      const step = disposables.use(await device.compile(plan, state));
      return timed(() => step.run());
    };
    const contenders = { one: await start(one), two: await start(two), jax: () => jax.time(n) };
    const timings = await interleave(contenders, { rounds });
    const speed = (timing?: Timing) => timing && 2 * n ** 3 / timing.median / 1e6;
    rows.push({
      n,
      one: speed(timings.one)!,
      two: speed(timings.two)!,
      jax: speed(timings.jax),
    });
  }
  return rows;
}

if (import.meta.main) {
  console.log("form m,n,k             wasm   blas    jax  GFLOP/s (median)   wasm/blas  wasm/jax");
  for (const row of await benchMatmul([...squares, ...trainingShapes])) {
    const cell = (x?: number) => (x === undefined ? "-" : x.toFixed(1)).padStart(7);
    const ratio = (x?: number) => (x === undefined ? "-" : (row.wasm / x).toFixed(2)).padStart(10);
    console.log(
      row.form.padEnd(20),
      cell(row.wasm),
      cell(row.blas),
      cell(row.jax),
      " ".repeat(18),
      ratio(row.blas),
      ratio(row.jax),
    );
  }
  for (const { n, one, two, jax } of await benchPool([256, 512, 1024])) {
    console.log(
      `cpu device, ${n}: one member ${one.toFixed(1)}, two ${two.toFixed(1)} (${
        (two / one).toFixed(2)
      }x), jax-js on two ${jax?.toFixed(1) ?? "-"} GFLOP/s`,
    );
  }
}
