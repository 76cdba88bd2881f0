/** WGSL for levels of a few bits. */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import { groupOf, type LevelAttrs, wordsOf } from "../levels.ts";
import { foldGrid, type GpuKernel, type GpuPass, input, output } from "../lowering.ts";
import { each } from "./each.ts";

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

const attrsOf = ({ attrs }: OpContext) => attrs as unknown as LevelAttrs;

export const widenKernels: readonly GpuKernel[] = [{
  name: "a thread a vector",
  passes(node) {
    const attrs = attrsOf(node), { bits, columns } = attrs, [{ shape: [rows] }] = node.inputs;
    const vectors = Math.ceil(columns / 4);
    return [each(
      rows * vectors,
      widenWgsl,
      { words: { ...input(0), vec4: true }, scales: input(1), out: output(0) },
      { uints: { columns, vectors, quads: wordsOf(attrs) / 4, bits, per: groupOf(bits) / 4 } },
    )];
  },
}];

const widenWgsl = `
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let row = i / params.vectors;
  let vector = i % params.vectors;
  let words = load4_words(row * params.quads + vector / params.per);
  let up = 32u - params.bits * (vector % params.per + 1u);
  let levels = (words << vec4u(up)) >> vec4u(32u - params.bits);
  let values = vec4f(levels) * load_scales(row);
  for (var l = 0u; l < 4u; l++) {
    let column = vector * 4u + l;
    if (column < params.columns) { store_out(row * params.columns + column, values[l]); }
  }
}`;

/** Outputs of a workgroup, and its threads, which run along K. */
const outputs = 4, threads = 64;

/** Rows of a block: a power of two up to 8, so that few pipelines serve all sizes. */
const blockRows = (m: number) => m <= 1 ? 1 : m <= 2 ? 2 : m <= 4 ? 4 : 8;

export const matmulLevelsKernels: readonly GpuKernel[] = [{
  name: "dots",
  passes: (node) => [dotsPass(node)],
}];

function dotsPass(node: OpContext): GpuPass {
  const attrs = attrsOf(node), { bits, columns: k } = attrs, [m, n] = node.outputs[0].shape;
  const rows = blockRows(m), quadsA = k % 4 === 0 && sizeOf(node.inputs[0].shape) > 0;
  const values = rows * outputs;
  return {
    wgsl: dotsWgsl(bits, rows, quadsA),
    bindings: {
      a: { ...input(0), ...(quadsA && { vec4: true }) },
      words: { ...input(1), vec4: true },
      scales: input(2),
      out: output(0),
    },
    uints: { m, n, k, quads: wordsOf(attrs) / 4 },
    grid: foldGrid(Math.ceil(n / outputs) * Math.ceil(m / rows)),
    workgroupBytes: 4 * values * (threads + 1),
  };
}

function dotsWgsl(bits: number, rows: number, quadsA: boolean): string {
  const per = groupOf(bits) / 4, values = rows * outputs, pitch = threads + 1;
  const sums = range(rows).flatMap((r) =>
    range(outputs).map((j) => ({ r, j, name: `s${r}_${j}` }))
  );
  const part = (l: number) =>
    `if (at + ${l}u < params.k) { v.${"xyzw"[l]} = load_a(row * params.k + at + ${l}u); }`;
  const readA = quadsA
    ? `if (at < params.k) { v = load4_a((row * params.k + at) / 4u); }`
    : range(4).map(part).join("\n  ");
  return `
var<workgroup> parts: array<f32, ${values * pitch}>;

// Four neighbours of a row of a, zeros beyond its end.
fn read_a(row: u32, at: u32) -> vec4f {
  var v = vec4f(0.0);
  ${readA}
  return v;
}

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let across = (params.n + ${outputs - 1}u) / ${outputs}u;
  let group = flatGroup(id, grid);
  if (group >= across * ((params.m + ${rows - 1}u) / ${rows}u)) { return; }
  let column = (group % across) * ${outputs}u;
  let row = (group / across) * ${rows}u;
  ${range(rows).map((r) => `let row${r} = min(row + ${r}u, params.m - 1u);`).join("\n  ")}
  ${
    range(outputs).map((j) => `let words${j} = min(column + ${j}u, params.n - 1u) * params.quads;`)
      .join("\n  ")
  }
  ${sums.map(({ name }) => `var ${name} = 0.0;`).join("\n  ")}
  for (var quad = thread; quad < params.quads; quad += ${threads}u) {
    ${range(outputs).map((j) => `let q${j} = load4_words(words${j} + quad);`).join("\n    ")}
    for (var t = 0u; t < ${per}u; t++) {
      let up = vec4u(${32 - bits}u - ${bits}u * t);
      let at = quad * ${4 * per}u + t * 4u;
      ${
    range(outputs).map((j) => `let w${j} = vec4f((q${j} << up) >> vec4u(${32 - bits}u));`)
      .join("\n      ")
  }
      ${
    range(rows).map((r) =>
      `let a${r} = read_a(row${r}, at);
      ${range(outputs).map((j) => `s${r}_${j} += dot(a${r}, w${j});`).join("\n      ")}`
    ).join("\n      ")
  }
    }
  }
  ${
    sums.map(({ r, j, name }) => `parts[${(r * outputs + j) * pitch}u + thread] = ${name};`)
      .join("\n  ")
  }
  workgroupBarrier();
  if (thread < ${values}u) {
    let to_row = row + thread / ${outputs}u;
    let to_column = column + thread % ${outputs}u;
    var sum = 0.0;
    for (var i = 0u; i < ${threads}u; i++) { sum += parts[thread * ${pitch}u + i]; }
    if (to_row < params.m && to_column < params.n) {
      store_out(to_row * params.n + to_column, sum * load_scales(to_column));
    }
  }
}`;
}
