/**
 * Sums over rows for each column, in WGSL: [rows, columns] → [columns]. Two stages where there are
 * many rows; the split follows from the sizes alone, so the order of the additions, and with it
 * every bit, is always the same.
 */

import type { Spec } from "../../core/graph/mod.ts";
import { type Binding, foldGrid, type GpuPass, type Operand } from "../lowering.ts";

const WORKGROUP = 256;
/** About as many workgroups as keep a large GPU busy. */
const GROUPS = 512;

/** What is summed: one or more terms at once, which may share what they read. */
export interface ColumnSums {
  readonly rows: number;
  readonly columns: number;
  /**
   * WGSL functions `term0(row: u32, column: u32) -> f32`, `term1`, …; `params.columns` may be used.
   */
  readonly terms: readonly string[];
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Where the sums go, a place for each term. */
  readonly outputs: readonly Operand[];
  /** Scratch for the partial sums, a place for each term; not used by small sums. */
  readonly partials: readonly Operand[];
}

/** Columns side by side in a workgroup, and the lanes that share each. */
function tile(columns: number): { wide: number; lanes: number } {
  let wide = 1;
  while (wide < 32 && wide < columns) wide *= 2;
  return { wide, lanes: WORKGROUP / wide };
}

/** Parts that the rows are cut into. */
function partsOf(rows: number, columns: number): number {
  const { wide, lanes } = tile(columns), tiles = Math.ceil(columns / wide);
  return Math.max(1, Math.min(Math.ceil(rows / (lanes * 8)), Math.floor(GROUPS / tiles)));
}

/** Scratch that `columnSumPasses` wants for each term: none, or the partial sums. */
export function columnSumScratch(rows: number, columns: number, terms: number): Spec[] {
  const parts = partsOf(rows, columns);
  if (parts === 1) return [];
  return Array.from({ length: terms }, () => ({ shape: [parts, columns], dtype: "f32" }));
}

export function columnSumPasses(sums: ColumnSums): GpuPass[] {
  const { rows, columns, terms, outputs, partials } = sums, parts = partsOf(rows, columns);
  if (parts === 1) return [stage(sums, 1, outputs)];
  const second: ColumnSums = {
    ...sums,
    rows: parts,
    terms: terms.map((_, i) =>
      `fn term${i}(row: u32, column: u32) -> f32 { return load_p${i}(row * params.columns + column); }`
    ),
    bindings: Object.fromEntries(partials.map((at, i) => [`p${i}`, at])),
  };
  return [stage(sums, parts, partials), stage(second, 1, outputs)];
}

function stage(
  { rows, columns, terms, bindings }: ColumnSums,
  parts: number,
  outputs: readonly Operand[],
): GpuPass {
  const { wide, lanes } = tile(columns),
    each = (f: (i: number) => string) => terms.map((_, i) => f(i)).join(" ");
  const tree: string[] = [];
  for (let half = lanes / 2; half >= 1; half /= 2) {
    tree.push(
      `if (lane < ${half}u) { ${
        each((i) => `part${i}[local] += part${i}[local + ${half * wide}u];`)
      } }`,
      "workgroupBarrier();",
    );
  }
  const [x, y] = foldGrid(Math.ceil(columns / wide));
  return {
    wgsl: `
${terms.join("\n")}
${each((i) => `var<workgroup> part${i}: array<f32, ${WORKGROUP}>;`)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let column = flatGroup(id, grid) * ${wide}u + local % ${wide}u;
  let lane = local / ${wide}u;
  let begin = id.z * params.chunk;
  let end = min(begin + params.chunk, params.rows);
  ${each((i) => `var sum${i} = 0.0;`)}
  if (column < params.columns) {
    for (var row = begin + lane; row < end; row += ${lanes}u) { ${
      each((i) => `sum${i} += term${i}(row, column);`)
    } }
  }
  ${each((i) => `part${i}[local] = sum${i};`)}
  workgroupBarrier();
  ${tree.join("\n  ")}
  if (lane == 0u && column < params.columns) { ${
      each((i) => `store_y${i}(id.z * params.columns + column, part${i}[local]);`)
    } }
}`,
    bindings: { ...bindings, ...Object.fromEntries(outputs.map((at, i) => [`y${i}`, at])) },
    uints: { rows, columns, chunk: Math.ceil(rows / parts) },
    grid: [x, y, parts],
    workgroupBytes: terms.length * WORKGROUP * 4,
  };
}
