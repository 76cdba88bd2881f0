/** Passes of one thread a unit of work, in workgroups of 256: most small kernels. */

import { type Binding, foldGrid, type GpuPass } from "../lowering.ts";

/** `params.size` is the number of units; the shader leaves at once beyond it. */
export function each(
  size: number,
  wgsl: string,
  bindings: Readonly<Record<string, Binding>>,
  numbers: Pick<GpuPass, "uints" | "floats"> = {},
): GpuPass {
  return {
    wgsl,
    bindings,
    uints: { size, ...numbers.uints },
    floats: numbers.floats,
    grid: foldGrid(Math.ceil(size / 256)),
  };
}
