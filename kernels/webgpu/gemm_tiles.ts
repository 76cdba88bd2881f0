/**
 * WGSL of products in tiles. A tile of each factor is staged in workgroup memory k-major, four rows
 * (or columns) to a vector, so that every layout multiplies alike: transposition happens in
 * registers while a 4 × 4 block is loaded.
 */

/** Block of the workgroup, depth of a step, block of a thread; all multiples of four. */
export interface Tile {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly threadRows: number;
  readonly threadColumns: number;
  /** Fetches the next step's blocks before it multiplies: more registers, less waiting. */
  readonly ahead?: boolean;
}

export const tileThreads = (t: Tile) => (t.rows / t.threadRows) * (t.columns / t.threadColumns);
export const tileBytes = (t: Tile) => (t.rows + t.columns) * t.depth * 4;

/** How the factors lie. `quads…`: that factor is bound as vectors. */
export interface Form {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly quadsA: boolean;
  readonly quadsB: boolean;
}

/** A printed product kernel that covers `rows` × `columns` of the result with each workgroup. */
export interface Printed {
  readonly wgsl: string;
  readonly rows: number;
  readonly columns: number;
  readonly workgroupBytes: number;
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

export const entry = (threads: number, body: string) => `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
${body}
}
`;

/**
 * `quad_x(base, outer, inner)`: four neighbours along the axis that is dense, zeros beyond
 * `inner_size`. `outer` is not checked. A row of the dense axis is `inner_size` long.
 */
export function quadWgsl(x: string, size: string, quads: boolean): string {
  const at = `base + outer * params.${size} + inner`;
  if (quads) {
    return `
fn quad_${x}(base: u32, outer: u32, inner: u32) -> vec4f {
  if (inner >= params.${size}) { return vec4f(0.0); }
  return load4_${x}((${at}) / 4u);
}`;
  }
  const one = (i: number) =>
    `if (inner + ${i}u < params.${size}) { v.${"xyzw"[i]} = load_${x}(at + ${i}u); }`;
  return `
fn quad_${x}(base: u32, outer: u32, inner: u32) -> vec4f {
  let at = ${at};
  var v = vec4f(0.0);
  ${range(4).map(one).join("\n  ")}
  return v;
}`;
}

/** `outer` of a factor: rows of A, columns of B. `dense`: the axis along which memory runs. */
interface Side {
  readonly x: "a" | "b";
  readonly outer: "m" | "n";
  readonly dense: "k" | "outer";
  readonly quads: boolean;
}

export function sides({ transA, transB, quadsA, quadsB }: Form): [Side, Side] {
  return [
    { x: "a", outer: "m", dense: transA ? "outer" : "k", quads: quadsA },
    { x: "b", outer: "n", dense: transB ? "k" : "outer", quads: quadsB },
  ];
}

export const sideQuad = ({ x, outer, dense, quads }: Side) =>
  quadWgsl(x, dense === "k" ? "k" : outer, quads);

/**
 * `fetch_x(base, first, k0, block)`: block `block` of the tile at (first, k0), four k of four rows,
 * as four vectors over rows. `put_x(block, …)` stages it. Where K is dense, neighbouring lanes take
 * neighbouring quads of a row in pairs: whole sectors of 32 bytes.
 */
function blockWgsl({ x, outer, dense }: Side, extent: number): string {
  const across = extent / 4;
  const place = dense === "k"
    ? `let rows = (block / 2u) % ${across}u;
  let quad = block % 2u + 2u * (block / ${2 * across}u);`
    : `let rows = block % ${across}u;
  let quad = block / ${across}u;`;
  const one = (i: number) =>
    dense === "k"
      ? `if (row + ${i}u < params.${outer}) { v${i} = quad_${x}(base, row + ${i}u, k); }`
      : `if (k + ${i}u < params.k) { v${i} = quad_${x}(base, k + ${i}u, row); }`;
  const turned = (i: number) =>
    dense === "k" ? `vec4f(${range(4).map((j) => `v${j}.${"xyzw"[i]}`).join(", ")})` : `v${i}`;
  return `
fn fetch_${x}(base: u32, first: u32, k0: u32, block: u32) -> mat4x4f {
  ${place}
  let row = first + rows * 4u;
  let k = k0 + quad * 4u;
  ${range(4).map((i) => `var v${i} = vec4f(0.0);\n  ${one(i)}`).join("\n  ")}
  return mat4x4f(${range(4).map(turned).join(", ")});
}
fn put_${x}(block: u32, v: mat4x4f) {
  ${place}
  ${range(4).map((i) => `tile_${x}[quad][${i}][rows] = v[${i}];`).join("\n  ")}
}`;
}

/** What one thread stages in turn `turn`: a block of either factor. */
interface Turn {
  readonly fetch: string;
  readonly put: string;
}

/**
 * The blocks of both factors, shared out over the threads; where a turn has some of both, the
 * choice is a thread's.
 */
function turnsOf(tile: Tile): Turn[] {
  const threads = tileThreads(tile);
  const blocksA = tile.rows * tile.depth / 16, blocksB = tile.columns * tile.depth / 16;
  const fetchA = (block: string) => `fetch_a(a_base, first_row, at, ${block})`;
  const fetchB = (block: string) => `fetch_b(b_base, first_column, at, ${block})`;
  return range(Math.ceil((blocksA + blocksB) / threads)).map((turn) => {
    const start = turn * threads, end = start + threads, block = `thread + ${start}u`;
    const v = `staged${turn}`, blockB = `${block} - ${blocksA}u`;
    if (end <= blocksA) {
      return { fetch: `${v} = ${fetchA(block)};`, put: `put_a(${block}, ${v});` };
    }
    if (start >= blocksA) {
      return { fetch: `${v} = ${fetchB(blockB)};`, put: `put_b(${blockB}, ${v});` };
    }
    return {
      fetch: `if (${block} < ${blocksA}u) { ${v} = ${fetchA(block)}; } else { ${v} = ${
        fetchB(blockB)
      }; }`,
      put:
        `if (${block} < ${blocksA}u) { put_a(${block}, ${v}); } else { put_b(${blockB}, ${v}); }`,
    };
  });
}

/**
 * Wants params m, n, k, batch, a_offset, b_offset, tiles_m, tiles_n, k_split, splits and a
 * `store_quad`.
 */
export function tileWgsl(tile: Tile, form: Form): string {
  const { rows, columns, depth, threadRows, threadColumns, ahead } = tile;
  const across = columns / threadColumns, down = rows / threadRows;
  const quadRows = range(threadRows / 4), quadColumns = range(threadColumns / 4);
  const [a, b] = sides(form), turns = turnsOf(tile);
  const fetch = (at: string) => `{ let at = ${at}; ${turns.map((t) => t.fetch).join(" ")} }`;
  const sums = quadRows.flatMap((i) =>
    range(4).flatMap((r) => quadColumns.map((j) => ({ i, r, j, name: `sum${i}${r}_${j}` })))
  );
  // A step of K. Its place in a quad is a constant and the thread's places are loop-invariant, so
  // that of the bounds checks that are made for each access of workgroup memory one in four steps
  // is left.
  const step = (k: number) =>
    `{
        ${quadRows.map((i) => `let a${i} = tile_a[quad][${k}][y + ${i * down}u];`).join(" ")}
        ${quadColumns.map((j) => `let b${j} = tile_b[quad][${k}][x + ${j * across}u];`).join(" ")}
        ${
      sums.map(({ i, r, j, name }) => `${name} = fma(vec4f(a${i}.${"xyzw"[r]}), b${j}, ${name});`)
        .join("\n        ")
    }
      }`;
  return `
var<workgroup> tile_a: array<array<array<vec4f, ${rows / 4}>, 4>, ${depth / 4}>;
var<workgroup> tile_b: array<array<array<vec4f, ${columns / 4}>, 4>, ${depth / 4}>;
${sideQuad(a)}${sideQuad(b)}${blockWgsl(a, rows)}${blockWgsl(b, columns)}
${
    entry(
      down * across,
      `  // Tiles go in bands of eight rows of tiles, so that neighbours in time share both factors in the cache.
  let per_matrix = params.tiles_m * params.tiles_n;
  let number = group.x + group.y * groups.x;
  if (number >= per_matrix * params.batch * params.splits) { return; }
  let z = number / per_matrix;
  let matrix = z % params.batch;
  let place = number % per_matrix;
  let band = place / (8u * params.tiles_n);
  let height = min(8u, params.tiles_m - band * 8u);
  let within = place - band * 8u * params.tiles_n;
  let first_row = (band * 8u + within % height) * ${rows}u;
  let first_column = (within / height) * ${columns}u;
  let a_base = params.a_offset + matrix * params.m * params.k;
  let b_base = params.b_offset + matrix * params.k * params.n;
  let k_first = (z / params.batch) * params.k_split;
  let k_end = min(k_first + params.k_split, params.k);
  let x = thread % ${across}u;
  let y = thread / ${across}u;
  ${sums.map(({ name }) => `var ${name} = vec4f(0.0);`).join("\n  ")}
  ${turns.map((_, turn) => `var staged${turn}: mat4x4f;`).join("\n  ")}
  ${ahead ? fetch("k_first") : ""}
  for (var k0 = k_first; k0 < k_end; k0 += ${depth}u) {
    ${ahead ? "" : fetch("k0")}
    ${turns.map((t) => t.put).join("\n    ")}
    workgroupBarrier();
    ${ahead ? `if (k0 + ${depth}u < k_end) ${fetch(`k0 + ${depth}u`)}` : ""}
    for (var quad = 0u; quad < ${depth / 4}u; quad++) {
      ${range(4).map(step).join("\n      ")}
    }
    workgroupBarrier();
  }
  ${
        sums.map(({ i, r, j, name }) =>
          `store_quad(z, first_row + (y + ${i * down}u) * 4u + ${r}u, ` +
          `first_column + (x + ${j * across}u) * 4u, ${name});`
        ).join("\n  ")
      }`,
    )
  }`;
}

/**
 * Four rows and four columns to a thread, no workgroup memory: what a software adapter compiles
 * fastest.
 */
export function plainWgsl(form: Form): Printed {
  const [a, b] = sides(form);
  const rows = 32, columns = 32;
  const one = ({ x, outer, dense }: Side, i: number) => {
    const line = `${outer === "m" ? "row" : "column"}${i}`;
    const at = dense === "k" ? `${line} * params.k + k` : `k * params.${outer} + ${line}`;
    return `load_${x}(${x}_base + ${at})`;
  };
  return {
    rows,
    columns,
    workgroupBytes: 0,
    wgsl: `${b.dense === "outer" ? sideQuad(b) : ""}
${
      entry(
        64,
        `  let tiles_n = (params.n + ${columns - 1}u) / ${columns}u;
  let per_matrix = tiles_n * ((params.m + ${rows - 1}u) / ${rows}u);
  let number = group.x + group.y * groups.x;
  if (number >= per_matrix * params.batch) { return; }
  let z = number / per_matrix;
  let place = number % per_matrix;
  let row = (place / tiles_n) * ${rows}u + (thread / 8u) * 4u;
  let column = (place % tiles_n) * ${columns}u + (thread % 8u) * 4u;
  let a_base = params.a_offset + z * params.m * params.k;
  let b_base = params.b_offset + z * params.k * params.n;
  // Rows and columns beyond the end repeat the last one and are dropped when stored.
  ${range(4).map((i) => `let row${i} = min(row + ${i}u, params.m - 1u);`).join("\n  ")}
  ${range(4).map((i) => `let column${i} = min(column + ${i}u, params.n - 1u);`).join("\n  ")}
  ${range(4).map((i) => `var sum${i} = vec4f(0.0);`).join("\n  ")}
  for (var k = 0u; k < params.k; k++) {
    let y = ${
          b.dense === "outer"
            ? `quad_b(b_base, k, column)`
            : `vec4f(${range(4).map((i) => one(b, i)).join(", ")})`
        };
    ${range(4).map((i) => `sum${i} = fma(vec4f(${one(a, i)}), y, sum${i});`).join("\n    ")}
  }
  ${range(4).map((i) => `store_quad(z, row + ${i}u, column, sum${i});`).join("\n  ")}`,
      )
    }`,
  };
}
