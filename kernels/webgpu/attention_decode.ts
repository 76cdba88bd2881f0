/**
 * WGSL of attention over a cache for few queries: a workgroup takes one query and a span of keys, a
 * thread a key for the scores and a channel for the values. Where a cache has several spans a
 * second pass merges them.
 */

import { range, scoreWgsl, THREADS } from "./attention_parts.ts";

export interface DecodeForm {
  readonly width: number;
  readonly softcap: boolean;
  /** Results go to scratch, to be merged. */
  readonly partial: boolean;
}

export const decodeBytes = ({ width }: DecodeForm) =>
  4 * (4 * Math.ceil(width / 4) + 2 * THREADS + 1);

const main = (body: string) => `
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let number = group.x + group.y * groups.x;
  if (number >= params.groups) { return; }
${body}
}
`;

export function decodeWgsl({ width, softcap, partial }: DecodeForm): string {
  const quads = width % 4 === 0, columns = range(Math.ceil(width / THREADS));
  const quad = (x: string) =>
    quads ? `load4_${x}((at + d) / 4u)` : `vec4f(${
      range(4).map((i) =>
        // What is read beyond the width is the next row's; the query is zero there, but it could be infinite.
        i === 0
          ? `load_${x}(at + d)`
          : `select(0.0, load_${x}(at + d + ${i}u), d + ${i}u < params.width)`
      ).join(", ")
    })`;
  return `
const NOTHING = -1e38;
var<workgroup> query: array<vec4f, ${Math.ceil(width / 4)}>;
var<workgroup> scores: array<f32, ${THREADS}>;
var<workgroup> shares: array<f32, ${THREADS}>;
var<workgroup> shared_start: i32;
${scoreWgsl(softcap)}
${
    main(`  let part = number % params.splits;
  let row = number / params.splits;
  let head = row % params.heads;
  let t = (row / params.heads) % params.time;
  let batch = row / (params.heads * params.time);
  let kv_head = head / (params.heads / params.kv_heads);
  if (thread == 0u) { shared_start = load_start(batch); }
  let position = workgroupUniformLoad(&shared_start) + i32(t);
  var keys_end = i32(min((part + 1u) * params.span, params.keys));
  if (params.causal == 1u) { keys_end = min(keys_end, position + 1); }
  var keys_first = i32(part * params.span);
  if (params.window > 0u) { keys_first = max(keys_first, position - i32(params.window) + 1); }
  for (var i = thread; i < ${Math.ceil(width / 4)}u; i += ${THREADS}u) {
    let at = row * params.width;
    let d = i * 4u;
    query[i] = ${quad("q")};
  }
  let stride = params.kv_heads * params.width;
  let cache_at = batch * params.keys * stride + kv_head * params.width;
  var top = NOTHING;
  var total = 0.0;
  ${columns.map((c) => `var acc${c} = 0.0;`).join("\n  ")}
  for (var first = keys_first; first < keys_end; first += ${THREADS}) {
    workgroupBarrier();
    let key = first + i32(thread);
    var score = NOTHING;
    if (key < keys_end) {
      let at = cache_at + u32(key) * stride;
      var dots = vec4f(0.0);
      for (var i = 0u; i < ${Math.ceil(width / 4)}u; i++) {
        let d = i * 4u;
        dots = fma(query[i], ${quad("k")}, dots);
      }
      score = score_of(dot(dots, vec4f(1.0)));
    }
    scores[thread] = score;
    workgroupBarrier();
    var new_top = top;
    for (var i = 0u; i < ${THREADS}u; i++) { new_top = max(new_top, scores[i]); }
    shares[thread] = select(0.0, exp(score - new_top), key < keys_end);
    workgroupBarrier();
    let shrink = exp(top - new_top);
    top = new_top;
    total *= shrink;
    ${columns.map((c) => `acc${c} *= shrink;`).join("\n    ")}
    // Four keys at a time, so that their loads overlap; those beyond the end repeat the last, with
    // a share of 0.
    for (var i = 0; i < min(${THREADS}, keys_end - first); i += 4) {
      ${
      range(4).map((j) =>
        `let share${j} = shares[i + ${j}];
      let at${j} = cache_at + u32(min(first + i + ${j}, keys_end - 1)) * stride + thread;
      total += share${j};`
      ).join("\n      ")
    }
      ${
      columns.map((c) =>
        `if (thread + ${c * THREADS}u < params.width) {
        ${
          range(4).map((j) =>
            `acc${c} = fma(share${j}, load_v(at${j} + ${c * THREADS}u), acc${c});`
          )
            .join("\n        ")
        }
      }`
      ).join("\n      ")
    }
    }
  }
  ${
      partial
        ? columns.map((c) =>
          `if (thread + ${
            c * THREADS
          }u < params.width) { store_parts(number * params.width + thread + ${
            c * THREADS
          }u, acc${c}); }`
        ).join("\n  ") + `
  if (thread == 0u) {
    store_stats(2u * number, top);
    store_stats(2u * number + 1u, total);
  }`
        : `let share = select(1.0 / total, 0.0, total == 0.0);
  ${
          columns.map((c) =>
            `if (thread + ${
              c * THREADS
            }u < params.width) { store_out(row * params.width + thread + ${
              c * THREADS
            }u, acc${c} * share); }`
          ).join("\n  ")
        }`
    }`)
  }`;
}

/**
 * One workgroup a query: the spans' sums, each brought to the largest of the tops, first span
 * first.
 */
export const mergeWgsl = main(`  var top = load_stats(2u * number * params.splits);
  for (var part = 1u; part < params.splits; part++) {
    top = max(top, load_stats(2u * (number * params.splits + part)));
  }
  var total = 0.0;
  for (var part = 0u; part < params.splits; part++) {
    let at = 2u * (number * params.splits + part);
    total += exp(load_stats(at) - top) * load_stats(at + 1u);
  }
  let share = select(1.0 / total, 0.0, total == 0.0);
  for (var d = thread; d < params.width; d += ${THREADS}u) {
    var sum = 0.0;
    for (var part = 0u; part < params.splits; part++) {
      let at = number * params.splits + part;
      sum += exp(load_stats(2u * at) - top) * load_parts(at * params.width + d);
    }
    store_out(number * params.width + d, sum * share);
  }`);
