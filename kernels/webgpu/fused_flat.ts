/**
 * Fused programs without row reductions: every thread has one point, two where halves share a word,
 * or four neighbours.
 */

import { isHalf, sizeOf } from "../../core/graph/mod.ts";
import { type FusedProgram, sourcesOf } from "../fused.ts";
import { foldGrid, type GpuPass } from "../lowering.ts";
import {
  bindingsOf,
  constantsOf,
  type ProgramOperands,
  wgslType,
  WORKGROUP,
} from "./fused_parts.ts";
import { isReduction, stepsWgsl } from "./scalars.ts";
import { collapse, indicesWgsl, type Space } from "./strides.ts";

const entry = `@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let unit = flatGroup(id, grid) * ${WORKGROUP}u + lane;
  if (unit >= params.units) { return; }`;

/** Whether a program has this form. */
export const isFlat = (program: FusedProgram): boolean =>
  !program.steps.some(isReduction) && program.outputs.every(({ extent }) => extent === "element");

const pointWgsl = ({ outputs }: FusedProgram) =>
  `struct Point { ${outputs.map(({ spec }, o) => `y${o}: ${wgslType(spec.dtype)}`).join(", ")} }`;
const resultWgsl = ({ outputs }: FusedProgram, values: readonly string[]) =>
  `return Point(${outputs.map(({ value }) => values[value]).join(", ")});`;

export function flatPass(program: FusedProgram, operands: ProgramOperands): GpuPass {
  const { shape, accesses, outputs } = program, size = sizeOf(shape);
  const { lines, expressions, uints } = indicesWgsl(collapse(shape, accesses), "i");
  const sources = sourcesOf(program);
  const { lines: steps, values } = stepsWgsl(
    program,
    (k) => `load_x${sources[k]}(${expressions[k]})`,
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
${pointWgsl(program)}
fn point(i: u32) -> Point {
  ${[...lines, ...steps].join("\n  ")}
  ${resultWgsl(program, values)}
}
${entry}
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

// The four copies of a longer program cost more in compiling and registers than wide loads give
// back.
const LONGEST_QUAD = 40;

/**
 * The space of a program whose points can be done four at a time, each operand read as a whole
 * vector or as one number for all four. A space of one axis need not be a multiple of four: tensors
 * are padded, and what lies there is nobody's.
 */
function quadSpace(program: FusedProgram): Space | undefined {
  const { shape, accesses, steps } = program, sources = sourcesOf(program);
  const space = collapse(shape, accesses), { dims } = space;
  if (dims.length === 0 || (dims.length > 1 && dims.at(-1)! % 4 !== 0)) return undefined;
  const fits = space.accesses.every(({ strides, offset }) =>
    strides.at(-1) === 0 ||
    (strides.at(-1) === 1 && offset % 4 === 0 && strides.slice(0, -1).every((s) => s % 4 === 0))
  );
  // an operand is bound as vectors or as numbers
  const areAlike = sources.every((from, k) =>
    space.accesses[k].strides.at(-1) === space.accesses[sources.indexOf(from)].strides.at(-1)
  );
  return fits && areAlike && steps.length <= LONGEST_QUAD ? space : undefined;
}

export const takesQuads = (program: FusedProgram): boolean =>
  isFlat(program) && quadSpace(program) !== undefined;

/** Four neighbouring points a thread. */
export function quadPass(program: FusedProgram, operands: ProgramOperands): GpuPass {
  const space = quadSpace(program), { outputs, steps } = program, sources = sourcesOf(program);
  if (!space) throw new Error("the program cannot be done four points at a time");
  const { lines, expressions, uints } = indicesWgsl(space, "i");
  const wide = space.accesses.map(({ strides }) => strides.at(-1) === 1);
  const body = stepsWgsl(program, (k) => `in${k}`, (_, step) => `params.k${step}`);
  const used = [...new Set(steps.flatMap((step) => step.op === "input" ? [step.input] : []))];
  // A lone input is a copy, and that may be of integers.
  const type = steps.length === 1 ? wgslType(outputs[0].spec.dtype) : "f32";
  const loads = used.map((k) =>
    wide[k]
      ? `let q${k} = load4_x${sources[k]}((${expressions[k]}) / 4u);`
      : `let q${k} = load_x${sources[k]}(${expressions[k]});`
  );
  const points = [..."xyzw"].map((lane) =>
    `let p${lane} = point(${used.map((k) => wide[k] ? `q${k}.${lane}` : `q${k}`).join(", ")});`
  );
  const bindings = bindingsOf(operands);
  wide.forEach((vec4, k) => {
    const name = `x${sources[k]}`;
    bindings[name] = { ...bindings[name], vec4 };
  });
  outputs.forEach((_, o) => bindings[`y${o}`] = { ...bindings[`y${o}`], vec4: true });
  const units = Math.ceil(sizeOf(program.shape) / 4);
  return {
    wgsl: `
${pointWgsl(program)}
fn point(${used.map((k) => `in${k}: ${type}`).join(", ")}) -> Point {
  ${body.lines.join("\n  ")}
  ${resultWgsl(program, body.values)}
}
${entry}
  let i = 4u * unit;
  ${[...lines, ...loads, ...points].join("\n  ")}
  ${
      outputs.map(({ spec }, o) =>
        `store4_y${o}(unit, vec4<${wgslType(spec.dtype)}>(px.y${o}, py.y${o}, pz.y${o}, pw.y${o}));`
      ).join("\n  ")
    }
}`,
    bindings,
    uints: { units, ...uints },
    floats: constantsOf(program),
    grid: foldGrid(Math.ceil(units / WORKGROUP)),
  };
}
