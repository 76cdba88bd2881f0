/**
 * WGSL of attention's backward pass, in three kernels: the row sums of dout · out; gradients of
 * queries, which loop over keys; and of keys and values, which loop over the queries of all heads
 * that share them. Each result has one writer, so there are no atomics.
 */

import {
  accumulators,
  entry,
  gatherWgsl,
  layTile,
  layWgsl,
  productWgsl,
  putWgsl,
  range,
  type Rows,
  rowsOf,
  rowWgsl,
  scoreWgsl,
  stageWgsl,
  THREADS,
  TILE,
  unitsWgsl,
  weightsSize,
  weightsWgsl,
  zeros,
} from "./attention_parts.ts";

export interface BackwardForm {
  readonly width: number;
  readonly softcap: boolean;
  readonly segments: boolean;
  /** Groups of 32 queries in a tile of the kernel of their gradients. */
  readonly groups: number;
}

/** Channels that are staged at a time, turned, and quads that are laid. */
const DEPTH = 16, LAID = 16;
const PART = DEPTH / 4;
/** Turned tiles of two tensors of rows and two of columns; or one laid one. */
const unitsOf = (groups: number) => Math.max(2 * (groups + 1) * PART, LAID);
/**
 * Channels of keys and values that one workgroup gathers: two sets of accumulators must stay in
 * registers.
 */
export const SLICE = 128;

export const backwardBytes = (groups: number) => 16 * (32 * unitsOf(groups) + weightsSize(groups));

/**
 * delta[batch, head, t] = Σ dout · out, eight lanes a row. With segments it lies beside the
 * log-sum-exp in `sums`: together they take one binding of the eight that every device has.
 */
export const deltaWgsl = (segments: boolean) => `
var<workgroup> parts: array<f32, ${THREADS}>;
${
  entry(
    THREADS,
    `  let rows = params.batch * params.time * params.heads;
  let row = number * 8u + y;
  var sum = 0.0;
  if (row < rows) {
    for (var d = x; d < params.width; d += 8u) {
      sum += load_dout(row * params.width + d) * load_out(row * params.width + d);
    }
  }
  parts[thread] = sum;
  workgroupBarrier();
  if (x == 0u && row < rows) {
    for (var i = 1u; i < 8u; i++) { sum += parts[thread + i]; }
    let head = row % params.heads;
    let t = (row / params.heads) % params.time;
    let batch = row / (params.heads * params.time);
    let at = (batch * params.heads + head) * params.time + t;
    ${
      segments
        ? "store_sums(2u * at, load_lse(at));\n    store_sums(2u * at + 1u, sum);"
        : "store_delta(at, sum);"
    }
  }`,
  )
}`;

/** `lse` and `delta` of a row, by the number of the pair of variables. */
function sumsOf(segments: boolean, n: number, at: string): string {
  return segments
    ? `let sums_at${n} = 2u * (${at});
  let lse${n} = load_sums(sums_at${n});
  let delta${n} = load_sums(sums_at${n} + 1u);`
    : `let lse${n} = load_lse(${at});
  let delta${n} = load_delta(${at});`;
}

function tensors(quads: boolean): Record<"q" | "k" | "v" | "dout", Rows> {
  const queries = { time: "time", heads: "heads", quads };
  const keys = { time: "keys", heads: "kv_heads", quads };
  return {
    q: { ...queries, x: "q" },
    dout: { ...queries, x: "dout" },
    k: { ...keys, x: "k" },
    v: { ...keys, x: "v" },
  };
}

const memory = (groups: number) => `
${unitsWgsl("stage", unitsOf(groups))}
${weightsWgsl(groups)}`;

/** A tensor's name, the first row of a tile of it, and its head. */
interface Staged {
  readonly x: string;
  readonly first: string;
  readonly head: string;
}

/**
 * Two products of one tile of rows and one of columns: sums `s` of the first pair, `g` of the
 * second. Half the threads stage each pair: 16 channels of 32 rows are 32 blocks.
 */
function bothProducts(
  width: number,
  groups: number,
  pairs: readonly (readonly [Staged, Staged])[],
): string {
  const each = (groups + 1) * PART;
  const stage = ([left, right]: readonly [Staged, Staged], p: number) =>
    [
      ...range(groups).map((g) =>
        `stage_${left.x}(batch, ${left.first} + ${TILE * g}u, ${left.head}, d, ${
          p * each + g * PART
        }u, thread % 32u);`
      ),
      `stage_${right.x}(batch, ${right.first}, ${right.head}, d, ${
        p * each + groups * PART
      }u, thread % 32u);`,
    ].join(" ");
  const products = ["s", "g"].map((sums, p) => ({
    sums,
    left: range(groups).map((g) => `${p * each + g * PART}u`),
    right: `${p * each + groups * PART}u`,
  }));
  return `${zeros([...rowsOf("s", groups), ...rowsOf("g", groups)])}
    for (var d = 0u; d < ${Math.ceil(width / DEPTH) * DEPTH}u; d += ${DEPTH}u) {
      workgroupBarrier();
      if (thread < 32u) { ${stage(pairs[0], 0)} } else { ${stage(pairs[1], 1)} }
      workgroupBarrier();
      ${productWgsl(products, DEPTH)}
    }`;
}

/**
 * Turns s into weights and g into cotangents of the dot products. `seen`, `lse` and `delta` are
 * given for row r and column j.
 */
function slopes(
  groups: number,
  seen: (r: number, j: number) => string,
  lse: (r: number, j: number) => string,
  delta: (r: number, j: number) => string,
): string {
  return range(4 * groups).flatMap((r) =>
    range(4).map((j) => {
      const s = `s${r}.${"xyzw"[j]}`, g = `g${r}.${"xyzw"[j]}`;
      return `{
      let score = score_of(${s});
      let weight = select(0.0, exp(score - ${lse(r, j)}), ${seen(r, j)});
      ${g} = weight * (${g} - ${delta(r, j)}) * slope_of(score);
      ${s} = weight;
    }`;
    })
  ).join("\n    ");
}

export function queryGradWgsl({ width, softcap, segments, groups }: BackwardForm): string {
  const { q, k, v, dout } = tensors(width % 4 === 0), dq = { ...q, x: "dq" };
  const columns = Math.ceil(width / 32), acc = accumulators("acc", groups, columns);
  const clamped = (row: string) => `min(${row}, params.time - 1u)`;
  return `${memory(groups)}
${[q, k, v, dout].map((x) => rowWgsl(x) + stageWgsl(x)).join("")}${layWgsl(k, LAID)}${putWgsl(dq)}
${scoreWgsl(softcap)}
${
    entry(
      THREADS,
      `  let tile = params.tiles - 1u - number % params.tiles;
  let head = (number / params.tiles) % params.heads;
  let batch = number / (params.tiles * params.heads);
  let kv_head = head / (params.heads / params.kv_heads);
  let first = tile * ${TILE * groups}u;
  let rows_at = (batch * params.heads + head) * params.time;
  ${
        range(4 * groups).map((r) =>
          `let row${r} = first + y + ${8 * r}u;
  ${sumsOf(segments, r, `rows_at + ${clamped(`row${r}`)}`)}
  ${
            segments
              ? `let segment${r} = load_segments(batch * params.time + ${clamped(`row${r}`)});`
              : ""
          }`
        ).join("\n  ")
      }
  var keys_end = params.keys;
  if (params.causal == 1u) { keys_end = min(keys_end, first + ${TILE * groups}u); }
  var keys_first = 0u;
  if (params.window > 0u) { keys_first = u32(max(0, i32(first) - i32(params.window) + 1)); }
  ${zeros(acc)}
  for (var key = (keys_first / ${TILE}u) * ${TILE}u; key < keys_end; key += ${TILE}u) {
    ${
        bothProducts(width, groups, [
          [{ x: "q", first: "first", head: "head" }, { x: "k", first: "key", head: "kv_head" }],
          [{ x: "dout", first: "first", head: "head" }, { x: "v", first: "key", head: "kv_head" }],
        ])
      }
    ${
        range(4).map((j) =>
          `let key${j} = key + x + ${8 * j}u;
    ${
            segments
              ? `let key_segment${j} = load_segments(batch * params.time + ${clamped(`key${j}`)});`
              : ""
          }`
        ).join("\n    ")
      }
    ${
        slopes(
          groups,
          (r, j) =>
            `row${r} < params.time && sees(i32(row${r}), i32(key${j}))${
              segments ? ` && segment${r} == key_segment${j}` : ""
            }`,
          (r) => `lse${r}`,
          (r) => `delta${r}`,
        )
      }
    ${layTile("g", groups)}
    ${
        gatherWgsl({
          x: "k",
          acc: "acc",
          groups,
          quads: columns,
          laid: LAID,
          at: 0,
          lay: (channel) => `batch, key, kv_head, ${channel}u`,
        })
      }
  }
  ${
        range(columns).flatMap((j) =>
          range(4 * groups).map((r) =>
            `put_dq(batch, row${r}, head, ${32 * j}u + x * 4u, acc${r}_${j});`
          )
        ).join("\n  ")
      }`,
    )
  }`;
}

export function keyGradWgsl({ width, softcap, segments }: BackwardForm): string {
  const { q, k, v, dout } = tensors(width % 4 === 0);
  const dk = { ...k, x: "dk" }, dv = { ...k, x: "dv" };
  const columns = Math.ceil(Math.min(width, SLICE) / 32);
  const clamped = (row: string) => `min(${row}, params.time - 1u)`;
  const gather = (x: string, acc: string) =>
    gatherWgsl({
      x,
      acc,
      groups: 1,
      quads: columns,
      laid: LAID,
      at: 0,
      lay: (channel) => `batch, query, head, slice + ${channel}u`,
    });
  return `${memory(1)}
${[q, k, v, dout].map((x) => rowWgsl(x) + stageWgsl(x)).join("")}${layWgsl(q, LAID)}${
    layWgsl(dout, LAID)
  }${putWgsl(dk)}${putWgsl(dv)}
${scoreWgsl(softcap)}
${
    entry(
      THREADS,
      `  let first = (number % params.tiles) * ${TILE}u;
  let slice = ((number / params.tiles) % params.slices) * ${SLICE}u;
  let kv_head = (number / (params.tiles * params.slices)) % params.kv_heads;
  let batch = number / (params.tiles * params.slices * params.kv_heads);
  let shared_by = params.heads / params.kv_heads;
  ${
        range(4).map((r) =>
          `let key${r} = first + y + ${8 * r}u;
  ${
            segments
              ? `let key_segment${r} = load_segments(batch * params.time + ${clamped(`key${r}`)});`
              : ""
          }`
        ).join("\n  ")
      }
  var queries_first = 0u;
  if (params.causal == 1u) { queries_first = first; }
  var queries_end = params.time;
  if (params.window > 0u) { queries_end = min(queries_end, first + ${TILE}u + params.window - 1u); }
  ${zeros([...accumulators("acc_k", 1, columns), ...accumulators("acc_v", 1, columns)])}
  for (var head = kv_head * shared_by; head < (kv_head + 1u) * shared_by; head++) {
    let rows_at = (batch * params.heads + head) * params.time;
    for (var query = (queries_first / ${TILE}u) * ${TILE}u; query < queries_end; query += ${TILE}u) {
    ${
        bothProducts(width, 1, [
          [{ x: "k", first: "first", head: "kv_head" }, { x: "q", first: "query", head: "head" }],
          [
            { x: "v", first: "first", head: "kv_head" },
            { x: "dout", first: "query", head: "head" },
          ],
        ])
      }
    ${
        range(4).map((j) =>
          `let row${j} = query + x + ${8 * j}u;
    ${sumsOf(segments, j, `rows_at + ${clamped(`row${j}`)}`)}
    ${
            segments
              ? `let segment${j} = load_segments(batch * params.time + ${clamped(`row${j}`)});`
              : ""
          }`
        ).join("\n    ")
      }
    ${
        slopes(
          1,
          (r, j) =>
            `row${j} < params.time && sees(i32(row${j}), i32(key${r}))${
              segments ? ` && segment${j} == key_segment${r}` : ""
            }`,
          (_, j) => `lse${j}`,
          (_, j) => `delta${j}`,
        )
      }
    ${layTile("s", 1)}
    ${gather("dout", "acc_v")}
    workgroupBarrier();
    ${layTile("g", 1)}
    ${gather("q", "acc_k")}
    }
  }
  ${
        ["k", "v"].flatMap((x) =>
          range(columns).flatMap((j) =>
            range(4).map((r) =>
              `put_d${x}(batch, key${r}, kv_head, slice + ${32 * j}u + x * 4u, acc_${x}${r}_${j});`
            )
          )
        ).join("\n  ")
      }`,
    )
  }`;
}
