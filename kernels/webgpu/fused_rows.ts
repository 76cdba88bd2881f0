/**
 * Fused programs with row reductions: a row belongs to a power of two of lanes. Each walks its
 * columns once for every phase and computes again what it needs, since a row read twice comes from
 * the cache, and a tree in workgroup memory joins the lanes.
 */

import { isHalf, sizeOf } from "../../core/graph/mod.ts";
import { extentsOf, type FusedProgram, phasesOf, sourcesOf } from "../fused.ts";
import { foldGrid, type GpuPass } from "../lowering.ts";
import { bindingsOf, constantsOf, type ProgramOperands, WORKGROUP } from "./fused_parts.ts";
import { isReduction, scalarWgsl } from "./scalars.ts";
import { collapse, indicesWgsl } from "./strides.ts";

/** Lanes that share a row: about four columns each. */
function lanesFor(width: number): number {
  let lanes = 1;
  while (lanes < WORKGROUP && lanes * 4 < width) lanes *= 2;
  return lanes;
}

export function rowPass(program: FusedProgram, operands: ProgramOperands): GpuPass {
  const { shape } = program, width = shape.at(-1)!, rows = sizeOf(shape) / width;
  const lanes = lanesFor(width), perGroup = WORKGROUP / lanes;
  const printer = new RowPrinter(program, lanes);
  const reductions = program.steps.filter(isReduction).length;
  return {
    wgsl: printer.text(),
    bindings: bindingsOf(operands),
    uints: { rows, width, ...printer.uints },
    floats: constantsOf(program),
    grid: foldGrid(Math.ceil(rows / perGroup)),
    workgroupBytes: lanes > 1 ? reductions * WORKGROUP * 4 : 0,
  };
}

/** Prints the kernel of a program with rows; one use. */
class RowPrinter {
  readonly uints: Record<string, number>;
  readonly #extents: ("element" | "row")[];
  readonly #phases: number[];
  readonly #sources: number[];
  /** Element index of each access, as the row's first (`base`) and what a column adds. */
  readonly #columns: string[];
  readonly #decode: string[];

  constructor(readonly program: FusedProgram, readonly lanes: number) {
    const { shape, accesses } = program;
    this.#extents = extentsOf(program);
    this.#phases = phasesOf(program);
    this.#sources = sourcesOf(program);
    const outer = accesses.map(({ strides, offset }) => ({
      strides: strides.slice(0, -1),
      offset,
    }));
    const { lines, expressions, uints } = indicesWgsl(collapse(shape.slice(0, -1), outer), "row");
    this.uints = { ...uints };
    this.#decode = [...lines, ...expressions.map((at, k) => `let base${k} = ${at};`)];
    this.#columns = accesses.map(({ strides }, k) => {
      const stride = strides.at(-1)!;
      if (stride === 0 || stride === 1) return stride === 0 ? "" : " + COLUMN";
      this.uints[`x${k}_column`] = stride;
      return ` + COLUMN * params.x${k}_column`;
    });
  }

  text(): string {
    const { steps } = this.program, last = Math.max(...this.#phases);
    const body: string[] = [...this.#decode, ...this.#rowValues(0)];
    for (let phase = 1; phase <= last; phase++) {
      body.push(...this.#reduce(phase), ...this.#rowValues(phase));
    }
    body.push("if (wanted < params.rows) {", ...this.#stores(), "}");
    const shared = this.lanes === 1
      ? []
      : steps.flatMap((step, i) =>
        isReduction(step) ? [`var<workgroup> part${i}: array<f32, ${WORKGROUP}>;`] : []
      );
    return `
${shared.join("\n")}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % ${this.lanes}u;
  let wanted = flatGroup(id, grid) * ${WORKGROUP / this.lanes}u + local / ${this.lanes}u;
  let row = min(wanted, params.rows - 1u);
  ${body.join("\n  ")}
}`;
  }

  /** Row-wide values that are ready once `phase` reductions are done. */
  #rowValues(phase: number): string[] {
    return this.program.steps.flatMap((step, i) =>
      this.#extents[i] === "row" && this.#phases[i] === phase && !isReduction(step)
        ? [`let v${i} = ${this.#expression(i, "", "0u")};`]
        : []
    );
  }

  /** The step's own expression; element-wise arguments carry `suffix`. */
  #expression(i: number, suffix: string, column: string): string {
    const step = this.program.steps[i];
    if (step.op === "constant") return `params.k${i}`;
    if (step.op === "input") {
      const { input: k } = step;
      return `load_x${this.#sources[k]}(base${k}${this.#columns[k].replace("COLUMN", column)})`;
    }
    if (isReduction(step)) throw new Error("reductions are not expressions");
    return scalarWgsl[step.op](...step.args.map((arg) => this.#name(arg, suffix)));
  }

  #name(i: number, suffix: string): string {
    return this.#extents[i] === "row" ? `v${i}` : `v${i}${suffix}`;
  }

  /** Lines that compute the element-wise values which `wanted` depend on, at `column`. */
  #elements(wanted: readonly number[], suffix: string, column: string): string[] {
    const needed = new Set<number>();
    const visit = (i: number) => {
      if (this.#extents[i] === "row" || needed.has(i)) return;
      needed.add(i);
      const step = this.program.steps[i];
      if (step.op !== "constant" && step.op !== "input") step.args.forEach(visit);
    };
    wanted.forEach(visit);
    return [...needed].sort((a, b) => a - b).map((i) =>
      `let v${i}${suffix} = ${this.#expression(i, suffix, column)};`
    );
  }

  /** All reductions of a phase in one walk and one tree. */
  #reduce(phase: number): string[] {
    const { steps } = this.program;
    const found = steps.flatMap((step, i) =>
      isReduction(step) && this.#phases[i] === phase ? [{ i, of: step.args[0], op: step.op }] : []
    );
    const join = (op: string, a: string, b: string) =>
      op === "reduce_sum" ? `${a} + ${b}` : `max_of(${a}, ${b})`;
    const lines = [
      ...found.map(({ i, op }) =>
        `var sum${i} = ${op === "reduce_sum" ? "0.0" : "float_of(0xff800000u)"};`
      ),
      `for (var c = lane; c < params.width; c += ${this.lanes}u) {`,
      ...this.#elements(found.map(({ of }) => of), "e", "c"),
      ...found.map(({ i, of, op }) => `sum${i} = ${join(op, `sum${i}`, this.#name(of, "e"))};`),
      "}",
    ];
    if (this.lanes === 1) return [...lines, ...found.map(({ i }) => `let v${i} = sum${i};`)];
    lines.push(...found.map(({ i }) => `part${i}[local] = sum${i};`), "workgroupBarrier();");
    for (let half = this.lanes / 2; half >= 1; half /= 2) {
      lines.push(
        `if (lane < ${half}u) {`,
        ...found.map(({ i, op }) =>
          `part${i}[local] = ${join(op, `part${i}[local]`, `part${i}[local + ${half}u]`)};`
        ),
        "}",
        "workgroupBarrier();",
      );
    }
    return [...lines, ...found.map(({ i }) => `let v${i} = part${i}[local - lane];`)];
  }

  #stores(): string[] {
    const outputs = this.program.outputs.map((out, o) => ({ ...out, o }));
    const elements = outputs.filter(({ extent }) => extent === "element");
    const rows = outputs.filter(({ extent }) => extent === "row");
    const values = (of: typeof outputs) => of.map(({ value }) => value);
    const lines: string[] = [];
    if (rows.length > 0) {
      lines.push("if (lane == 0u) {", ...this.#elements(values(rows), "r", "0u"));
      lines.push(
        ...rows.map(({ value, o }) => `store_y${o}(row, ${this.#name(value, "r")});`),
        "}",
      );
    }
    if (elements.length === 0) return lines;
    if (!elements.some(({ spec }) => isHalf(spec.dtype))) {
      return [
        ...lines,
        `for (var c = lane; c < params.width; c += ${this.lanes}u) {`,
        ...this.#elements(values(elements), "a", "c"),
        ...elements.map(({ value, o }) =>
          `store_y${o}(row * params.width + c, ${this.#name(value, "a")});`
        ),
        "}",
      ];
    }
    return [
      ...lines,
      `for (var p = lane; 2u * p < params.width; p += ${this.lanes}u) {`,
      "let first = 2u * p; let second = first + 1u; let pair = row * (params.width / 2u) + p;",
      ...this.#elements(values(elements), "a", "first"),
      ...this.#elements(values(elements), "b", "second"),
      ...elements.map(({ value, o, spec }) => {
        const [a, b] = [this.#name(value, "a"), this.#name(value, "b")];
        return isHalf(spec.dtype)
          ? `store2_y${o}(pair, ${a}, ${b});`
          : `store_y${o}(2u * pair, ${a}); store_y${o}(2u * pair + 1u, ${b});`;
      }),
      "}",
    ];
  }
}
