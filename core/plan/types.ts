/**
 * A plan: everything about a step that is known before a byte is allocated. Devices execute it as
 * it stands.
 */

import type { Attrs, Op, OpContext, Spec } from "../graph/mod.ts";

/** Where a tensor's bytes are while a plan runs. */
export type Storage =
  /** A buffer that outlives the run, by its place in `Plan.state`. */
  | { readonly space: "state"; readonly index: number }
  /**
   * Byte offset into the plan's own memory, shared by tensors that do not live at the same time.
   */
  | { readonly space: "arena"; readonly offset: number }
  /** Byte offset into what is sent with each run. */
  | { readonly space: "upload"; readonly offset: number }
  /** Byte offset into what is sent once. */
  | { readonly space: "constant"; readonly offset: number };

export interface NamedSpec extends Spec {
  readonly name: string;
}

/** One node, placed. `lowered` is what the target made of it. */
export interface PlanStep<L> {
  readonly op: Op;
  readonly attrs: Attrs;
  readonly context: OpContext;
  readonly inputs: readonly Storage[];
  readonly outputs: readonly Storage[];
  readonly scratch: readonly Storage[];
  readonly lowered: L;
  readonly path: string;
}

/**
 * A host op: computed by its reference from uploads when a run is prepared, and uploaded with them.
 */
export interface HostStep {
  readonly op: Op;
  readonly context: OpContext;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

export interface Plan<L = unknown> {
  /** State that the plan reads or writes, by name; a store may hold more. */
  readonly state: readonly NamedSpec[];
  /**
   * Inputs sent with each run, with their offsets; host results have offsets too and names starting
   * with `host.`.
   */
  readonly uploads: readonly (NamedSpec & { readonly offset: number })[];
  /** Indices in these are indices into `uploads`. */
  readonly host: readonly HostStep[];
  readonly constants:
    readonly (Spec & { readonly offset: number; readonly values: ArrayBufferView })[];
  readonly steps: readonly PlanStep<L>[];
  /** Handed out after each run through the ring. */
  readonly outputs: readonly (NamedSpec & { readonly storage: Storage })[];
  readonly totals: PlanTotals;
}

export interface PlanTotals {
  readonly stateBytes: number;
  readonly arenaBytes: number;
  readonly uploadBytes: number;
  readonly constantBytes: number;
  /** All of the above: what the device must hold while the plan runs. */
  readonly peakBytes: number;
  readonly flops: number;
  readonly bytesMoved: number;
  readonly dispatches: number;
}

/**
 * What the planner must know of a device. Made from limits alone, so that a dry run needs no
 * device.
 */
export interface Target<L = unknown> {
  readonly kind: "cpu" | "webgpu";
  /** Offsets are multiples of this. */
  readonly alignment: number;
  /** Unused bytes kept after every tensor, for vector reads over its end. */
  readonly slack: number;
  /** No tensor crosses a multiple of this offset in the arena (a buffer's largest size). */
  readonly slabBytes: number;
  /** Largest tensor that a kernel can bind. */
  readonly maxTensorBytes: number;
  /** Buffers that one kernel can bind. */
  readonly maxOperands: number;
  /** Element-wise functions and reductions in one kernel, at most. */
  readonly maxMembers: number;
  /** An output may take over the bytes of an operand that it reads at the same points only. */
  readonly aliasing: boolean;
  /** Matrix products take element-wise work into their kernel. */
  readonly epilogues: boolean;
  lower(
    op: Op,
    context: OpContext,
  ): { readonly lowered: L; readonly scratchBytes: readonly number[]; readonly dispatches: number };
}
