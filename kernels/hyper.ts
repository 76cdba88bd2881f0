/** `hyper`: the scalars of an AdamW update as its kernels read them, so that each may change with the step. */

export interface AdamWScalars {
  readonly learning_rate: number;
  readonly beta1: number;
  readonly beta2: number;
  /** 1 − the product of the first, of the second betas of all updates so far, this one included. */
  readonly corrections: readonly [number, number];
  /** Weight decays, by `AdamWAttrs.decay`. */
  readonly decays: readonly number[];
}

/** (lr, c1, c2, b1, 1 − b1, b2, 1 − b2, decays…). What is left of a beta is taken before it is rounded to f32. */
export function packHyper(
  { learning_rate, beta1, beta2, corrections, decays }: AdamWScalars,
): Float64Array<ArrayBuffer> {
  const betas = [beta1, 1 - beta1, beta2, 1 - beta2];
  return Float64Array.of(learning_rate, ...corrections, ...betas, ...decays);
}

/** Where a decay stands in `hyper`. */
export function decayWord(decay: number): number {
  return 7 + decay;
}

/** How many words `hyper` has with so many decays. */
export function hyperSize(decays: number): number {
  return decayWord(decays);
}
