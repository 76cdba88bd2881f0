/**
 * WGSL that the attention kernels share. A workgroup is 64 threads, 8 × 8: thread (x, y) holds the scores of four rows
 * (y, y + 8, y + 16, y + 24 of a tile of 32) against four columns (x, x + 8, …), as `s0 … s3`, a vector of columns for each row. Rows are queries and
 * columns keys, or the other way round where keys gather gradients. The stride of eight keeps the tiles that are written by
 * columns and read by rows free of bank conflicts.
 *
 * Tensors are [batch, time, heads, width], read as they lie; beyond the last row or channel they read as zero.
 */

export const TILE = 32;
export const THREADS = 64;

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const xyzw = "xyzw";

/** A tensor of rows: name of its binding, and the params that hold its number of positions and heads. */
export interface Rows {
  readonly x: string;
  readonly time: string;
  readonly heads: string;
  /** Whether the width is a multiple of four. */
  readonly quads: boolean;
}

export const entry = (threads: number, body: string) => `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let number = group.x + group.y * groups.x;
  if (number >= params.groups) { return; }
  let x = thread % 8u;
  let y = thread / 8u;
${body}
}
`;

/** `row_x(batch, t, head, d)`: four channels from d on. */
export function rowWgsl({ x, time, heads, quads }: Rows): string {
  const load = quads ? `return load4_${x}((at + d) / 4u);` : `var v = vec4f(0.0);
  ${
    range(4).map((i) =>
      `if (d + ${i}u < params.width) { v.${xyzw[i]} = load_${x}(at + d + ${i}u); }`
    ).join("\n  ")
  }
  return v;`;
  return `
fn row_${x}(batch: u32, t: u32, head: u32, d: u32) -> vec4f {
  if (t >= params.${time} || d >= params.width) { return vec4f(0.0); }
  let at = ((batch * params.${time} + t) * params.${heads} + head) * params.width;
  ${load}
}`;
}

/**
 * `stage_x(batch, first, head, d, to, block)`: channels d + 4 (block / 8) … + 3 of rows block % 8 + 0, 8, 16, 24, turned so that
 * each vector holds one channel of four rows; channel c of the stage is at `to + 8 c`.
 */
export function stageWgsl({ x }: Rows): string {
  return `
fn stage_${x}(batch: u32, first: u32, head: u32, d: u32, to: u32, block: u32) {
  let row = first + block % 8u;
  let channel = (block / 8u) * 4u;
  ${
    range(4).map((i) => `let v${i} = row_${x}(batch, row + ${8 * i}u, head, d + channel);`).join(
      "\n  ",
    )
  }
  let place = to + channel * 8u + block % 8u;
  ${
    range(4).map((i) =>
      `stage[place + ${8 * i}u] = vec4f(${range(4).map((j) => `v${j}.${xyzw[i]}`).join(", ")});`
    ).join("\n  ")
  }
}`;
}

/** `lay_x(batch, first, head, d, thread)`: 32 rows of `quads` × 4 channels from d on, row after row, into the stage from `to` on. */
export function layWgsl({ x }: Rows, quads: number): string {
  return `
fn lay_${x}(batch: u32, first: u32, head: u32, d: u32, to: u32, thread: u32) {
  for (var i = thread; i < ${TILE * quads}u; i += ${THREADS}u) {
    stage[to + i] = row_${x}(batch, first + i / ${quads}u, head, d + (i % ${quads}u) * 4u);
  }
}`;
}

/** sums += (channels of the rows at `left`) · (channels of the columns at `right`), `depth` channels deep. */
export function productWgsl(
  pairs: readonly { sums: string; left: string; right: string }[],
  depth: number,
): string {
  return `for (var c = 0u; c < ${depth}u; c++) {
      ${
    pairs.map(({ sums, left, right }) =>
      `let ${sums}_a = stage[${left} + c * 8u + y];
      let ${sums}_b = stage[${right} + c * 8u + x];
      ${
        range(4).map((r) =>
          `${sums}${r} = fma(vec4f(${sums}_a.${xyzw[r]}), ${sums}_b, ${sums}${r});`
        ).join("\n      ")
      }`
    ).join("\n      ")
  }
    }`;
}

export const zeros = (names: readonly string[]) =>
  names.map((name) => `var ${name} = vec4f(0.0);`).join("\n    ");

export const four = (name: string) => range(4).map((r) => `${name}${r}`);

/** Names of a thread's accumulators: four rows by `quads` quads of channels. */
export const accumulators = (name: string, quads: number) =>
  range(quads).flatMap((j) => range(4).map((r) => `${name}${r}_${j}`));

/** Lays down the tile's values for `gatherWgsl`: column-major, rows in vectors, nine to a column. */
export function layTile(name: string): string {
  return range(4).map((j) =>
    `weights[(x + ${8 * j}u) * 9u + y] = vec4f(${
      range(4).map((r) => `${name}${r}.${xyzw[j]}`).join(", ")
    });`
  ).join("\n    ");
}
export const WEIGHTS = TILE * 9;

/**
 * acc += tile · rows: for each of the tile's 32 columns its value times that column's row of `x`, all channels from `first` on, as many
 * at a time as the stage holds.
 */
export function gatherWgsl(
  { x, acc, quads, staged, call }: {
    x: string;
    acc: string;
    quads: number;
    staged: number;
    call: (channel: number) => string;
  },
): string {
  const across = staged / 8;
  return range(Math.ceil(quads / across)).map((chunk) => {
    const own = range(Math.min(across, quads - chunk * across));
    return `workgroupBarrier();
    lay_${x}(${call(chunk * staged * 4)});
    workgroupBarrier();
    for (var c = 0u; c < ${TILE}u; c++) {
      let w = weights[c * 9u + y];
      ${
      own.map((j) =>
        `let v${j} = stage[STAGE_LAID + c * ${staged}u + x + ${8 * j}u];
      ${
          range(4).map((r) => {
            const name = `${acc}${r}_${chunk * across + j}`;
            return `${name} = fma(vec4f(w.${xyzw[r]}), v${j}, ${name});`;
          }).join("\n      ")
        }`
      ).join("\n      ")
    }
    }`;
  }).join("\n    ");
}

/** `put_x(batch, t, head, d, v)`: the inverse of `row_x`. */
export function putWgsl({ x, time, heads, quads }: Rows): string {
  const store = quads
    ? `store4_${x}((at + d) / 4u, v);`
    : range(4).map((i) =>
      `if (d + ${i}u < params.width) { store_${x}(at + d + ${i}u, v.${xyzw[i]}); }`
    ).join("\n  ");
  return `
fn put_${x}(batch: u32, t: u32, head: u32, d: u32, v: vec4f) {
  if (t >= params.${time} || d >= params.width) { return; }
  let at = ((batch * params.${time} + t) * params.${heads} + head) * params.width;
  ${store}
}`;
}

/** Which key positions a query position may look at, and what becomes of a score. Rows read as zero beyond the end are never seen. */
export function scoreWgsl(softcap: boolean): string {
  return `
fn sees(query: i32, key: i32) -> bool {
  return key < i32(params.keys) && (params.causal == 0u || key <= query) &&
    (params.window == 0u || key > query - i32(params.window));
}
fn score_of(dot: f32) -> f32 {
  ${
    softcap
      ? "return params.softcap * tanh_of(dot * params.scale / params.softcap);"
      : "return dot * params.scale;"
  }
}
fn slope_of(score: f32) -> f32 {
  ${
    softcap
      ? "let t = score / params.softcap;\n  return params.scale * (1.0 - t * t);"
      : "return params.scale;"
  }
}`;
}
