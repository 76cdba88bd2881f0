/**
 * Fused programs as WGSL. Without row reductions every thread does one point (two, where halves are written: whoever owns a word
 * writes it whole). With them a row belongs to a power of two of lanes: each walks its columns once for every phase and
 * computes again what it needs, since a row read twice comes from the cache, and a tree in workgroup memory joins the lanes.
 */

import { type Dtype, sizeOf, type Spec } from "../../core/graph/mod.ts";
import { copyProgram, denseAccess, extentsOf, type FusedProgram, phasesOf } from "../fused.ts";
import {
  type Binding,
  foldGrid,
  type GpuPass,
  input,
  type Operand,
  output,
  scratch,
} from "../lowering.ts";
import { isReduction, scalarWgsl, stepsWgsl } from "./scalars.ts";
import { collapse, indicesWgsl } from "./strides.ts";

const WORKGROUP = 256;

/** Where a program's inputs and outputs are bound. */
export interface ProgramOperands {
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
}

const isHalf = (dtype: Dtype) => dtype === "bf16" || dtype === "f16";

const isFlat = (program: FusedProgram) =>
  !program.steps.some(isReduction) && program.outputs.every(({ extent }) => extent === "element");

/** Outputs whose words would be shared by rows: they are written as f32 first and packed by a second pass. */
function detours(program: FusedProgram): number[] {
  if (isFlat(program)) return [];
  const odd = program.shape.at(-1)! % 2 === 1;
  return program.outputs.flatMap(({ extent, spec }, o) =>
    isHalf(spec.dtype) && (odd || extent === "row") ? [o] : []
  );
}

/** What `fusedPasses` wants as scratch, from index `first` on. */
export function fusedScratch(program: FusedProgram): Spec[] {
  return detours(program).map((o) => ({ shape: program.outputs[o].spec.shape, dtype: "f32" }));
}

/** The dispatches of a program. */
export function fusedPasses(
  program: FusedProgram,
  operands: ProgramOperands = {
    inputs: program.accesses.map((_, i) => input(i)),
    outputs: program.outputs.map((_, o) => output(o)),
  },
): GpuPass[] {
  if (isFlat(program)) return [flatPass(program, operands)];
  const around = detours(program), outputs = [...operands.outputs];
  around.forEach((o, i) => outputs[o] = scratch(i));
  const wide = program.outputs.map(({ spec, ...rest }, o) => ({
    ...rest,
    spec: around.includes(o) ? { shape: spec.shape, dtype: "f32" as Dtype } : spec,
  }));
  const main = rowPass({ ...program, outputs: wide }, { inputs: operands.inputs, outputs });
  const packs = around.map((o, i) => {
    const { shape, dtype } = program.outputs[o].spec;
    const copy = copyProgram(shape, denseAccess(shape), dtype);
    return flatPass(copy, { inputs: [scratch(i)], outputs: [operands.outputs[o]] });
  });
  return [main, ...packs];
}

const bindingsOf = ({ inputs, outputs }: ProgramOperands): Record<string, Binding> =>
  Object.fromEntries([
    ...inputs.map((at, i) => [`x${i}`, at]),
    ...outputs.map((at, o) => [`y${o}`, at]),
  ]);

/** Constants travel in the uniform, as many are made from sizes (1/n) and the text should not be. */
const constantsOf = (program: FusedProgram): Record<string, number> =>
  Object.fromEntries(
    program.steps.flatMap((step, i) => step.op === "constant" ? [[`k${i}`, step.value]] : []),
  );

const wgslType = (dtype: Dtype) => isHalf(dtype) ? "f32" : dtype;

function flatPass(program: FusedProgram, operands: ProgramOperands): GpuPass {
  const { shape, accesses, outputs } = program, size = sizeOf(shape);
  const { lines, expressions, uints } = indicesWgsl(collapse(shape, accesses), "i");
  const { lines: steps, values } = stepsWgsl(
    program,
    (k) => `load_x${k}(${expressions[k]})`,
    (_, step) => `params.k${step}`,
  );
  const pairs = outputs.some(({ spec }) => isHalf(spec.dtype));
  const stores = outputs.map(({ spec: { dtype } }, o) =>
    !pairs
      ? `store_y${o}(unit, a.y${o});`
      : isHalf(dtype)
      ? `store2_y${o}(unit, a.y${o}, select(b.y${o}, 0.0, alone));`
      : `store_y${o}(first, a.y${o}); if (!alone) { store_y${o}(first + 1u, b.y${o}); }`
  );
  return {
    wgsl: `
struct Point { ${outputs.map(({ spec }, o) => `y${o}: ${wgslType(spec.dtype)}`).join(", ")} }
fn point(i: u32) -> Point {
  ${[...lines, ...steps].join("\n  ")}
  return Point(${outputs.map(({ value }) => values[value]).join(", ")});
}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let unit = flatGroup(id, grid) * ${WORKGROUP}u + lane;
  if (unit >= params.units) { return; }
  ${
      pairs
        ? `let first = 2u * unit;
  let alone = first + 1u >= params.points;
  let a = point(first);
  let b = point(select(first + 1u, first, alone));`
        : "let a = point(unit);"
    }
  ${stores.join("\n  ")}
}`,
    bindings: bindingsOf(operands),
    uints: { units: pairs ? Math.ceil(size / 2) : size, points: size, ...uints },
    floats: constantsOf(program),
    grid: foldGrid(Math.ceil(size / (pairs ? 2 : 1) / WORKGROUP)),
  };
}

/** Lanes that share a row: about four columns each. */
function lanesFor(width: number): number {
  let lanes = 1;
  while (lanes < WORKGROUP && lanes * 4 < width) lanes *= 2;
  return lanes;
}

function rowPass(program: FusedProgram, operands: ProgramOperands): GpuPass {
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
  /** Element index of each access, as the row's first (`base`) and what a column adds. */
  readonly #columns: string[];
  readonly #decode: string[];

  constructor(readonly program: FusedProgram, readonly lanes: number) {
    const { shape, accesses } = program;
    this.#extents = extentsOf(program);
    this.#phases = phasesOf(program);
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
      return `load_x${k}(base${k}${this.#columns[k].replace("COLUMN", column)})`;
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
