/** A system BLAS through FFI: found, tried out, held to one thread (the pool splits the rows). */

import type { GemmForm } from "../../../kernels/mod.ts";

/**
 * Where `cblas_sgemm` may be, best first. A plain reference libblas is not listed: it is slower
 * than our own kernels.
 */
const CANDIDATES = [
  "/System/Library/Frameworks/Accelerate.framework/Accelerate",
  "libmkl_rt.so.2",
  "libopenblas.so.0",
  "libopenblas.so",
  "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
  "libopenblas.dll",
];

const ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112;

/** A product with its operands' absolute addresses. */
export interface Product extends GemmForm {
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
}

export interface Blas {
  /** Path or name under which it was opened; workers open the same. */
  readonly path: string;
  /** What it says of itself, for the manifest. */
  readonly version: string;
  gemm(product: Product): void;
  close(): void;
}

/**
 * The first BLAS that opens and multiplies right, or `undefined`. `path` names one to use instead
 * of searching; then failing is an error.
 */
export function findBlas(path?: string): Blas | undefined {
  if (path) {
    const blas = openBlas(path);
    if (!blas) {
      throw new Error(
        `${path} is not a BLAS that quern can use (it must have cblas_sgemm with 32-bit integers)`,
      );
    }
    return blas;
  }
  for (const candidate of CANDIDATES) {
    const blas = openBlas(candidate);
    if (blas) return blas;
  }
  return undefined;
}

export function openBlas(path: string): Blas | undefined {
  let library;
  try {
    library = Deno.dlopen(path, {
      cblas_sgemm: {
        parameters: [
          "i32",
          "i32",
          "i32",
          "i32",
          "i32",
          "i32",
          "f32",
          "pointer",
          "i32",
          "pointer",
          "i32",
          "f32",
          "pointer",
          "i32",
        ],
        result: "void",
      },
      openblas_set_num_threads: { parameters: ["i32"], result: "void", optional: true },
      openblas_get_config: { parameters: [], result: "pointer", optional: true },
      openblas_get_corename: { parameters: [], result: "pointer", optional: true },
      MKL_Set_Num_Threads: { parameters: ["i32"], result: "void", optional: true },
    });
  } catch {
    return undefined; // not there, or not a BLAS: the next one is tried
  }
  const { symbols } = library;
  // A worker that spins beside a library with threads of its own halves its speed; the pool splits
  // the rows instead.
  symbols.openblas_set_num_threads?.(1);
  symbols.MKL_Set_Num_Threads?.(1);
  const blas: Blas = {
    path,
    version:
      [symbols.openblas_get_config?.(), symbols.openblas_get_corename?.()].map(textAt).filter((
        text,
      ) => text).join(" on ") || path,
    gemm({ transA, transB, m, n, k, a, lda, b, ldb, accumulate, c, ldc }) {
      symbols.cblas_sgemm(
        ROW_MAJOR,
        transA ? TRANSPOSE : NO_TRANSPOSE,
        transB ? TRANSPOSE : NO_TRANSPOSE,
        m,
        n,
        k,
        1,
        Deno.UnsafePointer.create(a),
        lda,
        Deno.UnsafePointer.create(b),
        ldb,
        accumulate ? 1 : 0,
        Deno.UnsafePointer.create(c),
        ldc,
      );
    },
    close: () => library.close(),
  };
  if (multipliesRight(blas)) return blas;
  library.close();
  return undefined;
}

function textAt(pointer: Deno.PointerValue | undefined): string {
  return pointer ? Deno.UnsafePointerView.getCString(pointer).trim() : "";
}

/** A wrong signature (64-bit integers, say) is not noticed by FFI: a small product is. */
function multipliesRight(blas: Blas): boolean {
  const a = new Float32Array([1, 2, 3, 4, 5, 6]),
    b = new Float32Array([7, 8, 9, 10, 11, 12]),
    c = new Float32Array(4);
  const address = (x: Float32Array<ArrayBuffer>) =>
    Deno.UnsafePointer.value(Deno.UnsafePointer.of(x));
  const plain = { transA: false, transB: false, accumulate: false };
  const places = { a: address(a), lda: 3, b: address(b), ldb: 2, c: address(c), ldc: 2 };
  blas.gemm({ ...plain, ...places, m: 2, n: 2, k: 3 });
  return c.join() === "58,64,139,154";
}

export function addressOf(buffer: SharedArrayBuffer): bigint {
  return Deno.UnsafePointer.value(
    Deno.UnsafePointer.of(new Uint8Array(buffer) as unknown as Uint8Array<ArrayBuffer>),
  );
}
