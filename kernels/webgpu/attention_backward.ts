/**
 * WGSL of attention's backward pass, in three kernels: the row sums of dout · out; gradients of queries, which loop over keys; and of
 * keys and values, which loop over the queries of all heads that share them. Each result has one writer, so there are no atomics.
 */

import {
  accumulators,
  entry,
  four,
  gatherWgsl,
  layTile,
  layWgsl,
  productWgsl,
  putWgsl,
  range,
  type Rows,
  rowWgsl,
  scoreWgsl,
  stageWgsl,
  THREADS,
  TILE,
  WEIGHTS,
  zeros,
} from "./attention_parts.ts";

export interface BackwardForm {
  readonly width: number;
  readonly softcap: boolean;
  readonly segments: boolean;
}

const DEPTH = 16, STAGED = 16;
/** Four turned tiles of 16 channels, or one laid one of 64. */
const STAGE = 4 * DEPTH * 8;
/** Channels of keys and values that one workgroup gathers: two sets of accumulators must stay in registers. */
export const SLICE = 128;

export const backwardBytes = 16 * (STAGE + WEIGHTS);

/** delta[batch, head, t] = Σ dout · out; eight lanes a row. */
export const deltaWgsl = `
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
    store_delta((batch * params.heads + head) * params.time + t, sum);
  }`,
  )
}`;

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

const head = `
const STAGE_LAID = 0u;
var<workgroup> stage: array<vec4f, ${STAGE}>;
var<workgroup> weights: array<vec4f, ${WEIGHTS}>;`;

/** A tensor's name and the arguments that say which rows of it a tile holds. */
interface Staged {
  readonly x: string;
  readonly rows: string;
}

/** Two products of one tile of rows and one of columns: sums `s` of the first pair, `g` of the second. Half the threads stage each pair. */
function bothProducts(
  width: number,
  scores: readonly [Staged, Staged],
  cotangents: readonly [Staged, Staged],
): string {
  const quarter = STAGE / 4;
  const stage = (pair: readonly [Staged, Staged], to: number) =>
    pair.map(({ x, rows }, i) =>
      `stage_${x}(batch, ${rows}, d, ${to + i * quarter}u, thread % 32u);`
    ).join(" ");
  return `${zeros([...four("s"), ...four("g")])}
    for (var d = 0u; d < ${Math.ceil(width / DEPTH) * DEPTH}u; d += ${DEPTH}u) {
      workgroupBarrier();
      if (thread < 32u) { ${stage(scores, 0)} } else { ${stage(cotangents, 2 * quarter)} }
      workgroupBarrier();
      ${
    productWgsl([
      { sums: "s", left: "0u", right: `${quarter}u` },
      { sums: "g", left: `${2 * quarter}u`, right: `${3 * quarter}u` },
    ], DEPTH)
  }
    }`;
}

/**
 * Turns s into weights and g into cotangents of the dot products. `seen`, `lse` and `delta` are given for row r and column j.
 */
function slopes(
  seen: (r: number, j: number) => string,
  lse: (r: number, j: number) => string,
  delta: (r: number, j: number) => string,
): string {
  return range(4).flatMap((r) =>
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

export function queryGradWgsl({ width, softcap, segments }: BackwardForm): string {
  const { q, k, v, dout } = tensors(width % 4 === 0), dq = { ...q, x: "dq" };
  const columns = Math.ceil(width / 32), acc = accumulators("acc", columns);
  const clamped = (row: string) => `min(${row}, params.time - 1u)`;
  return `${head}
${[q, k, v, dout].map((x) => rowWgsl(x) + stageWgsl(x)).join("")}${layWgsl(k, STAGED)}${putWgsl(dq)}
${scoreWgsl(softcap)}
${
    entry(
      THREADS,
      `  let tile = params.tiles - 1u - number % params.tiles;
  let head = (number / params.tiles) % params.heads;
  let batch = number / (params.tiles * params.heads);
  let kv_head = head / (params.heads / params.kv_heads);
  let first = tile * ${TILE}u;
  let rows_at = (batch * params.heads + head) * params.time;
  ${
        range(4).map((r) =>
          `let row${r} = first + y + ${8 * r}u;
  let lse${r} = load_lse(rows_at + ${clamped(`row${r}`)});
  let delta${r} = load_delta(rows_at + ${clamped(`row${r}`)});
  ${
            segments
              ? `let segment${r} = load_segments(batch * params.time + ${clamped(`row${r}`)});`
              : ""
          }`
        ).join("\n  ")
      }
  var keys_end = params.keys;
  if (params.causal == 1u) { keys_end = min(keys_end, first + ${TILE}u); }
  var keys_first = 0u;
  if (params.window > 0u) { keys_first = u32(max(0, i32(first) - i32(params.window) + 1)); }
  ${zeros(acc)}
  for (var key = (keys_first / ${TILE}u) * ${TILE}u; key < keys_end; key += ${TILE}u) {
    ${
        bothProducts(
          width,
          [{ x: "q", rows: "first, head" }, { x: "k", rows: "key, kv_head" }],
          [{ x: "dout", rows: "first, head" }, { x: "v", rows: "key, kv_head" }],
        )
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
          (r, j) =>
            `row${r} < params.time && sees(i32(row${r}), i32(key${j}))${
              segments ? ` && segment${r} == key_segment${j}` : ""
            }`,
          (r) => `lse${r}`,
          (r) => `delta${r}`,
        )
      }
    ${layTile("g")}
    ${
        gatherWgsl({
          x: "k",
          acc: "acc",
          quads: columns,
          staged: STAGED,
          call: (channel) => `batch, key, kv_head, ${channel}u, STAGE_LAID, thread`,
        })
      }
  }
  ${
        range(columns).flatMap((j) =>
          range(4).map((r) => `put_dq(batch, row${r}, head, ${32 * j}u + x * 4u, acc${r}_${j});`)
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
      quads: columns,
      staged: STAGED,
      call: (channel) => `batch, query, head, slice + ${channel}u, STAGE_LAID, thread`,
    });
  return `${head}
${[q, k, v, dout].map((x) => rowWgsl(x) + stageWgsl(x)).join("")}${layWgsl(q, STAGED)}${
    layWgsl(dout, STAGED)
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
  ${zeros([...accumulators("acc_k", columns), ...accumulators("acc_v", columns)])}
  for (var head = kv_head * shared_by; head < (kv_head + 1u) * shared_by; head++) {
    let rows_at = (batch * params.heads + head) * params.time;
    for (var query = (queries_first / ${TILE}u) * ${TILE}u; query < queries_end; query += ${TILE}u) {
    ${
        bothProducts(
          width,
          [{ x: "k", rows: "first, kv_head" }, { x: "q", rows: "query, head" }],
          [{ x: "v", rows: "first, kv_head" }, { x: "dout", rows: "query, head" }],
        )
      }
    ${
        range(4).map((j) =>
          `let row${j} = query + x + ${8 * j}u;
    let lse${j} = load_lse(rows_at + ${clamped(`row${j}`)});
    let delta${j} = load_delta(rows_at + ${clamped(`row${j}`)});
    ${
            segments
              ? `let segment${j} = load_segments(batch * params.time + ${clamped(`row${j}`)});`
              : ""
          }`
        ).join("\n    ")
      }
    ${
        slopes(
          (r, j) =>
            `row${j} < params.time && sees(i32(row${j}), i32(key${r}))${
              segments ? ` && segment${j} == key_segment${r}` : ""
            }`,
          (_, j) => `lse${j}`,
          (_, j) => `delta${j}`,
        )
      }
    ${layTile("s")}
    ${gather("dout", "acc_v")}
    workgroupBarrier();
    ${layTile("g")}
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
