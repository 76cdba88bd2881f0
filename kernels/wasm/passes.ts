/**
 * What a fused program does in each of its passes over a row. A pass ends in reductions, which
 * later passes use; values that were costly and are needed again are kept in the member's scratch
 * instead of being computed twice.
 */

import { scalars } from "../elementwise.ts";
import { type Access, extentsOf, type FusedProgram, phasesOf } from "../fused.ts";

/**
 * A fused program that may also sum values over all rows: `columns` outputs, [width], made in
 * partial sums of row blocks.
 */
export interface RowProgram extends FusedProgram {
  readonly columns?: readonly number[];
  /** Where outputs are written, if not densely. */
  readonly places?: readonly Access[];
}

export interface Pass {
  /** Steps that reduce the row, by their places. */
  readonly reductions: readonly number[];
  /** Element outputs to write, by their places in `outputs`. */
  readonly elements: readonly number[];
  /** Places in `columns` to add to. */
  readonly columns: readonly number[];
  /** Steps to keep for a later pass: step → slot. */
  readonly kept: ReadonlyMap<number, number>;
  /** Steps that an earlier pass kept. */
  readonly known: ReadonlyMap<number, number>;
  /** FLOPs of an element. */
  readonly flops: number;
}

export interface Schedule {
  readonly passes: readonly Pass[];
  readonly extents: readonly ("element" | "row")[];
  readonly phases: readonly number[];
  /** How many steps, outputs and reductions use each step. */
  readonly uses: readonly number[];
  /** Rows of scratch that a member needs. */
  readonly slots: number;
}

/** FLOPs from which reading a value back is cheaper than computing it again. */
const keepFrom = 8;

export function argsOf(step: FusedProgram["steps"][number]): readonly number[] {
  return "args" in step ? step.args : [];
}

export const isReduction = (op: string): boolean => op === "reduce_sum" || op === "reduce_max";

/** Without `keep`, what is needed again is computed again. */
export function scheduleOf(program: RowProgram, { keep }: { keep: boolean }): Schedule {
  const { steps, outputs, columns = [] } = program;
  const extents = extentsOf(program), phases = phasesOf(program);
  const uses = steps.map(() => 0);
  for (const step of steps) for (const arg of argsOf(step)) uses[arg]++;
  for (const value of [...outputs.map(({ value }) => value), ...columns]) uses[value]++;

  const flopsOf = (n: number): number => {
    const step = steps[n];
    if (step.op === "input" || step.op === "constant" || isReduction(step.op)) return 0;
    return scalars[step.op as keyof typeof scalars].flops +
      argsOf(step).reduce((sum, arg) => sum + (extents[arg] === "row" ? 0 : flopsOf(arg)), 0);
  };

  const count = 1 + Math.max(...phases), slotOf = new Map<number, number>();
  const firstPass = new Map<number, number>(), drafts: Omit<Pass, "kept">[] = [];
  for (let phase = 0; phase < count; phase++) {
    const reductions = steps.flatMap(({ op }, n) =>
      isReduction(op) && phases[n] === phase + 1 ? [n] : []
    );
    const elements = outputs.flatMap(({ value, extent }, o) =>
      extent === "element" && phases[value] === phase ? [o] : []
    );
    const sums = columns.flatMap((value, c) => phases[value] === phase ? [c] : []);
    const known = new Map<number, number>(), seen = new Set<number>();
    let flops = reductions.length + sums.length;
    const visit = (n: number) => {
      if (seen.has(n) || extents[n] === "row") return;
      seen.add(n);
      if (keep && firstPass.has(n) && flopsOf(n) >= keepFrom) {
        if (!slotOf.has(n)) slotOf.set(n, slotOf.size);
        known.set(n, slotOf.get(n)!);
        return;
      }
      const step = steps[n];
      if ("args" in step) flops += scalars[step.op as keyof typeof scalars].flops;
      argsOf(step).forEach(visit);
    };
    reductions.forEach((n) => argsOf(steps[n]).forEach(visit));
    elements.forEach((o) => visit(outputs[o].value));
    sums.forEach((c) => visit(columns[c]));
    for (const n of seen) if (!firstPass.has(n)) firstPass.set(n, phase);
    drafts.push({ reductions, elements, columns: sums, known, flops });
  }
  const passes = drafts.map((draft, phase) => ({
    ...draft,
    kept: new Map(slotOf.entries().filter(([n]) => firstPass.get(n) === phase)),
  })).filter(({ reductions, elements, columns }) =>
    reductions.length + elements.length + columns.length > 0
  );
  return { passes, extents, phases, uses, slots: slotOf.size };
}
