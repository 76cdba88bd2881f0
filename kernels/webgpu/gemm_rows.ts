/**
 * WGSL of products with few rows, as in decoding: the time goes into reading B once, so the lanes
 * of a workgroup run along whatever axis of B is dense. Right for any number of rows: they are
 * taken in blocks.
 */

import { entry, type Form, type Printed, quadWgsl } from "./gemm_tiles.ts";

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Rows of a block: a power of two up to 8, so that few pipelines serve all sizes. */
const blockRows = (m: number) => m <= 1 ? 1 : m <= 2 ? 2 : m <= 4 ? 4 : 8;

const place = (rows: number, columns: number) =>
  `  let tiles_n = (params.n + ${columns - 1}u) / ${columns}u;
  let per_matrix = tiles_n * ((params.m + ${rows - 1}u) / ${rows}u);
  let number = group.x + group.y * groups.x;
  if (number >= per_matrix * params.batch) { return; }
  let z = number / per_matrix;
  let row = ((number % per_matrix) / tiles_n) * ${rows}u;
  let column = ((number % per_matrix) % tiles_n) * ${columns}u;
  let a_base = params.a_offset + z * params.m * params.k;
  let b_base = params.b_offset + z * params.k * params.n;`;

/** Four neighbours along K of a row of A, however A lies. */
function rowQuadWgsl({ transA, quadsA }: Form): string {
  if (!transA) return quadWgsl("a", "k", quadsA);
  const one = (i: number) => {
    const at = `base + (inner + ${i}u) * params.m + outer`;
    const load = quadsA ? `load4_a((${at}) / 4u)[outer % 4u]` : `load_a(${at})`;
    return `if (inner + ${i}u < params.k) { v.${"xyzw"[i]} = ${load}; }`;
  };
  return `
fn quad_a(base: u32, outer: u32, inner: u32) -> vec4f {
  var v = vec4f(0.0);
  ${range(4).map(one).join("\n  ")}
  return v;
}`;
}

/** B [n, k]: four columns of the result to a workgroup, 64 lanes along K. */
export function dotsWgsl(form: Form, m: number): Printed {
  const rows = blockRows(m), columns = 4, lanes = 64;
  const values = rows * columns, shares = lanes / values;
  const sums = range(rows).flatMap((r) =>
    range(columns).map((j) => ({ r, j, name: `s${r}_${j}` }))
  );
  return {
    rows,
    columns,
    workgroupBytes: 4 * (values * (lanes + 1) + lanes),
    wgsl: `
var<workgroup> parts: array<f32, ${values * (lanes + 1)}>;
var<workgroup> shares: array<f32, ${lanes}>;
${rowQuadWgsl(form)}${quadWgsl("b", "k", form.quadsB)}
${
      entry(
        lanes,
        `${place(rows, columns)}
  ${range(rows).map((r) => `let row${r} = min(row + ${r}u, params.m - 1u);`).join("\n  ")}
  ${range(columns).map((j) => `let column${j} = min(column + ${j}u, params.n - 1u);`).join("\n  ")}
  ${sums.map(({ name }) => `var ${name} = 0.0;`).join("\n  ")}
  for (var k = thread * 4u; k < params.k; k += ${lanes * 4}u) {
    ${range(columns).map((j) => `let b${j} = quad_b(b_base, column${j}, k);`).join("\n    ")}
    ${
          range(rows).map((r) =>
            `let a${r} = quad_a(a_base, row${r}, k);
    ${range(columns).map((j) => `s${r}_${j} += dot(a${r}, b${j});`).join("\n    ")}`
          ).join("\n    ")
        }
  }
  // A tree of two levels: ${shares} threads add ${values} lanes each for every value, one thread
  // adds those.
  ${
          sums.map(({ r, j, name }) =>
            `parts[${(r * columns + j) * (lanes + 1)}u + thread] = ${name};`
          ).join("\n  ")
        }
  workgroupBarrier();
  let value = thread / ${shares}u;
  let start = value * ${lanes + 1}u + (thread % ${shares}u) * ${values}u;
  var share = 0.0;
  for (var i = 0u; i < ${values}u; i++) { share += parts[start + i]; }
  shares[thread] = share;
  workgroupBarrier();
  if (thread < ${rows}u) {
    var v = vec4f(0.0);
    for (var i = 0u; i < ${shares}u; i++) {
      let at = thread * ${columns * shares}u + i;
      v += vec4f(${range(4).map((j) => `shares[at + ${j * shares}u]`).join(", ")});
    }
    store_quad(z, row + thread, column, v);
  }`,
      )
    }`,
  };
}

/**
 * B [k, n]: 32 columns of the result to a workgroup, eight quads of them beside each other, 32
 * lanes along K.
 */
export function skinnyWgsl(form: Form, m: number): Printed {
  const rows = blockRows(m), columns = 32, lanes = 32, threads = 256;
  const at = (r: number) =>
    form.transA ? `a_base + k * params.m + row${r}` : `a_base + row${r} * params.k + k`;
  const load = (r: number) =>
    form.quadsA ? `load4_a((${at(r)}) / 4u)[(${at(r)}) % 4u]` : `load_a(${at(r)})`;
  return {
    rows,
    columns,
    workgroupBytes: 16 * threads,
    wgsl: `
var<workgroup> parts: array<vec4f, ${threads}>;
${quadWgsl("b", "n", form.quadsB)}
${
      entry(
        threads,
        `${place(rows, columns)}
  let lane = thread / 8u;
  let quad = thread % 8u;
  ${range(rows).map((r) => `let row${r} = min(row + ${r}u, params.m - 1u);`).join("\n  ")}
  ${range(rows).map((r) => `var s${r} = vec4f(0.0);`).join("\n  ")}
  for (var k = lane; k < params.k; k += ${lanes}u) {
    let b = quad_b(b_base, k, column + quad * 4u);
    ${range(rows).map((r) => `s${r} = fma(vec4f(${load(r)}), b, s${r});`).join("\n    ")}
  }
  ${
          range(rows).map((r) =>
            `parts[thread] = s${r};
  workgroupBarrier();
  if (thread < 64u) { parts[thread] += parts[thread + 64u] + parts[thread + 128u] + parts[thread + 192u]; }
  workgroupBarrier();
  if (thread < 8u) {
    var v = parts[thread];
    for (var i = 8u; i < 64u; i += 8u) { v += parts[thread + i]; }
    store_quad(z, row + ${r}u, column + thread * 4u, v);
  }
  workgroupBarrier();`
          ).join("\n  ")
        }`,
      )
    }`,
  };
}
