/** What the planner must know of the cpu device; made without starting it. */

import type { CpuJob, CpuLowering, CpuTarget, Kernel } from "../../../kernels/mod.ts";
import type { Target } from "../../plan/types.ts";
import { ALIGNMENT } from "./memory.ts";

/** The jobs of a step, or `undefined` where its reference loop runs. */
export interface CpuLowered {
  readonly jobs: readonly CpuJob[] | undefined;
  readonly memberBytes: number;
  /** Of the step's scratch buffers, in their order. */
  readonly scratchBytes: readonly number[];
}

export interface CpuTargetOptions extends CpuTarget {
  /** Off: reference loops only, the oracle of the device. */
  readonly wasm?: boolean;
}

export function cpuTarget(options: CpuTargetOptions): Target<CpuLowered> {
  return {
    kind: "cpu",
    alignment: ALIGNMENT,
    slack: ALIGNMENT,
    slabBytes: 2 ** 32,
    maxTensorBytes: 2 ** 31,
    maxOperands: 24,
    maxMembers: 128,
    aliasing: true,
    epilogues: false,
    lower(op, context) {
      const lowering: CpuLowering | undefined = options.wasm === false
        ? undefined
        : (op as Kernel).wasm?.(context, options);
      const scratchBytes = lowering?.scratchBytes ?? [];
      return {
        lowered: { jobs: lowering?.jobs, memberBytes: lowering?.memberBytes ?? 0, scratchBytes },
        scratchBytes,
        dispatches: lowering?.jobs.length ?? 1,
      };
    },
  };
}

/**
 * Whether this engine has fused multiply-add on vectors: `f32x4.relaxed_madd` in a function body.
 */
export function hasRelaxedSimd(): boolean {
  // (module (func (result v128) three zero vectors, relaxed_madd))
  const zero = [0xfd, 0x0c, ...new Array(16).fill(0)];
  const body = [0, ...zero, ...zero, ...zero, 0xfd, 0x85, 0x02, 0x0b];
  return WebAssembly.validate(
    new Uint8Array([
      0,
      0x61,
      0x73,
      0x6d,
      1,
      0,
      0,
      0,
      1,
      5,
      1,
      0x60,
      0,
      1,
      0x7b,
      3,
      2,
      1,
      0,
      10,
      body.length + 2,
      1,
      body.length,
      ...body,
    ]),
  );
}
