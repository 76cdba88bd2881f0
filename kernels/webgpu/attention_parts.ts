/**
 * WGSL that the attention kernels share. A workgroup is 64 threads, 8 × 8: thread (x, y) holds the
 * scores of rows y, y + 8, … of its tile, four for each group of 32, against four columns (x, x +
 * 8, …), as `s0, s1, …`, a vector of columns for each row. Rows are queries and columns keys, or
 * the other way round where keys gather gradients. The stride of eight keeps the tiles that are
 * written by columns and read by rows free of bank conflicts.
 *
 * Workgroup memory is in units of 4 × 8 vectors. Turned, a unit holds four channels of 32 rows, a
 * vector for rows l, l + 8, l + 16, l + 24; laid, it holds four rows of 32 channels. Loops go by
 * units: the place within one is a constant or the thread's own, so that of the bounds checks that
 * are made for each access only one in four is left.
 *
 * Tensors are [batch, time, heads, width], read as they lie; beyond the last row or channel they
 * read as zero.
 */

export const TILE = 32;
export const THREADS = 64;

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const xyzw = "xyzw";

/**
 * A tensor of rows: name of its binding, and the params that hold its number of positions and
 * heads.
 */
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
 * `stage_x(batch, first, head, d, to, block)`: channels d + 4 (block / 8) … + 3 of 32 rows, turned;
 * channel d is in unit `to`.
 */
export function stageWgsl({ x }: Rows): string {
  return `
fn stage_${x}(batch: u32, first: u32, head: u32, d: u32, to: u32, block: u32) {
  let row = first + block % 8u;
  let unit = block / 8u;
  ${
    range(4).map((i) => `let v${i} = row_${x}(batch, row + ${8 * i}u, head, d + unit * 4u);`).join(
      "\n  ",
    )
  }
  ${
    range(4).map((i) =>
      `stage[to + unit][${i}][block % 8u] = vec4f(${
        range(4).map((j) => `v${j}.${xyzw[i]}`).join(", ")
      });`
    ).join("\n  ")
  }
}`;
}

/**
 * `lay_x(batch, first, head, d, to, thread)`: 32 rows of `quads` × 4 channels from d on, laid from
 * unit `to` on, 32 channels after another.
 */
export function layWgsl({ x }: Rows, quads: number): string {
  return `
fn lay_${x}(batch: u32, first: u32, head: u32, d: u32, to: u32, thread: u32) {
  for (var i = thread; i < ${TILE * quads}u; i += ${THREADS}u) {
    let row = i / ${quads}u;
    let quad = i % ${quads}u;
    stage[to + (quad / 8u) * ${UNITS}u + row / 4u][row % 4u][quad % 8u] =
      row_${x}(batch, first + row, head, d + quad * 4u);
  }
}`;
}

/** Workgroup memory of so many units. */
export const unitsWgsl = (name: string, units: number, lanes = 8) =>
  `var<workgroup> ${name}: array<array<array<vec4f, ${lanes}>, 4>, ${units}>;`;

/** A product of turned tiles: units of the rows' groups and of the columns. */
export interface Product {
  readonly sums: string;
  readonly left: readonly string[];
  readonly right: string;
}

/**
 * sums += (channels of the rows at `left`) · (channels of the columns at `right`), `depth` channels
 * deep.
 */
export function productWgsl(pairs: readonly Product[], depth: number): string {
  const step = (i: number) =>
    `{
        ${
      pairs.map(({ sums, left, right }) =>
        `let ${sums}_b = stage[${right} + unit][${i}][x];
        ${
          left.map((at, g) =>
            `let ${sums}_a${g} = stage[${at} + unit][${i}][y];
        ${
              range(4).map((r) =>
                `${sums}${4 * g + r} = fma(vec4f(${sums}_a${g}.${xyzw[r]}), ${sums}_b, ${sums}${
                  4 * g + r
                });`
              ).join("\n        ")
            }`
          ).join("\n        ")
        }`
      ).join("\n        ")
    }
      }`;
  return `for (var unit = 0u; unit < ${depth / 4}u; unit++) {
      ${range(4).map(step).join("\n      ")}
    }`;
}

export const zeros = (names: readonly string[]) =>
  names.map((name) => `var ${name} = vec4f(0.0);`).join("\n    ");

export const rowsOf = (name: string, groups: number) => range(4 * groups).map((r) => `${name}${r}`);

/** Names of a thread's accumulators: its rows by `quads` quads of channels. */
export const accumulators = (name: string, groups: number, quads: number) =>
  range(quads).flatMap((j) => range(4 * groups).map((r) => `${name}${r}_${j}`));

/** Units of a tile's values, as columns of rows; a vector of padding after eight. */
export const UNITS = TILE / 4;
export const weightsWgsl = (groups: number) => unitsWgsl("weights", UNITS * groups, 9);
export const weightsSize = (groups: number) => UNITS * groups * 4 * 9;

/** Puts down the tile's values for `gatherWgsl`. */
export function layTile(name: string, groups: number): string {
  return range(groups).flatMap((g) =>
    range(4).map((j) =>
      `weights[${UNITS * g + 2 * j}u + x / 4u][x % 4u][y] = vec4f(${
        range(4).map((r) => `${name}${4 * g + r}.${xyzw[j]}`).join(", ")
      });`
    )
  ).join("\n    ");
}

/** What `gatherWgsl` multiplies the tile with, and where to. */
export interface Gather {
  readonly x: string;
  readonly acc: string;
  readonly groups: number;
  /** Quads of channels that a thread gathers, and those that are laid at a time. */
  readonly quads: number;
  readonly laid: number;
  /**
   * Arguments of `lay_x` for the channels from `channel` on, and the unit that they are laid at.
   */
  lay(channel: number): string;
  readonly at: number;
}

/**
 * acc += tile · rows: for each of the tile's 32 columns its value times that column's row of `x`.
 */
export function gatherWgsl({ x, acc, groups, quads, laid, lay, at }: Gather): string {
  const across = laid / 8;
  return range(Math.ceil(quads / across)).map((chunk) => {
    const own = range(Math.min(across, quads - chunk * across));
    const step = (i: number) =>
      `{
        ${range(groups).map((g) => `let w${g} = weights[${UNITS * g}u + unit][${i}][y];`).join(" ")}
        ${
        own.map((j) =>
          `let v${j} = stage[${at + UNITS * j}u + unit][${i}][x];
        ${
            range(4 * groups).map((r) => {
              const name = `${acc}${r}_${chunk * across + j}`;
              return `${name} = fma(vec4f(w${Math.floor(r / 4)}.${xyzw[r % 4]}), v${j}, ${name});`;
            }).join("\n        ")
          }`
        ).join("\n        ")
      }
      }`;
    return `workgroupBarrier();
    lay_${x}(${lay(chunk * laid * 4)}, ${at}u, thread);
    workgroupBarrier();
    for (var unit = 0u; unit < ${UNITS}u; unit++) {
      ${range(4).map(step).join("\n      ")}
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

/**
 * Which key positions a query position may look at, and what becomes of a score. Rows read as zero
 * beyond the end are never seen.
 */
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
