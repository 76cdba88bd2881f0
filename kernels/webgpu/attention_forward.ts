/** WGSL of attention's forward pass: one workgroup a tile of 32 queries of one head, online softmax over tiles of keys. */

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
  rowWgsl,
  scoreWgsl,
  stageWgsl,
  THREADS,
  TILE,
  WEIGHTS,
  zeros,
} from "./attention_parts.ts";

export interface ForwardForm {
  readonly width: number;
  readonly softcap: boolean;
  readonly segments: boolean;
  /** Queries stand at `start` of their batch row in a cache; the log-sum-exp is not wanted. */
  readonly cached: boolean;
  /** The queries' tile stays in workgroup memory instead of coming from the cache for each tile of keys. */
  readonly keep: boolean;
}

const DEPTH = 32;

/** Vectors of the stage: queries, then keys (turned) or values (laid), 64 channels where queries are kept. */
function layout({ width, keep }: ForwardForm) {
  const depths = Math.ceil(width / DEPTH), kept = keep ? depths * DEPTH * 8 : DEPTH * 8;
  const staged = keep && width > 32 ? 16 : 8;
  return { depths, kept, staged, stage: kept + TILE * staged };
}

export function forwardBytes(form: ForwardForm): number {
  return 16 * (layout(form).stage + WEIGHTS + THREADS) + (form.cached ? 4 : 0);
}

export function forwardWgsl(form: ForwardForm): string {
  const { width, softcap, segments, cached, keep } = form;
  const { depths, kept, staged, stage } = layout(form);
  const quads = width % 4 === 0, columns = Math.ceil(width / 32);
  const q = { x: "q", time: "time", heads: "heads", quads };
  const k = { x: "k", time: "keys", heads: "kv_heads", quads }, v = { ...k, x: "v" };
  const out = { ...q, x: "out" };
  const acc = accumulators("acc", columns);
  const position = (r: number) => `i32(row${r})${cached ? " + start" : ""}`;
  const stageQueries = `stage_q(batch, first, head, d, ${keep ? "d * 8u" : "0u"}, thread);`;
  const everyDepth = (body: string) =>
    `for (var d = 0u; d < ${depths * DEPTH}u; d += ${DEPTH}u) {
      ${body}
    }`;
  return `
const STAGE_LAID = ${kept}u;
// Below every score: what the maximum of nothing is. Not infinite, as infinities may be assumed away.
const NOTHING = -1e38;
var<workgroup> stage: array<vec4f, ${stage}>;
var<workgroup> weights: array<vec4f, ${WEIGHTS}>;
var<workgroup> shared_rows: array<vec4f, ${THREADS}>;
${cached ? "var<workgroup> shared_start: i32;" : ""}
${[q, k, v].map(rowWgsl).join("")}${stageWgsl(q)}${stageWgsl(k)}${layWgsl(v, staged)}${putWgsl(out)}
${scoreWgsl(softcap)}
fn largest(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
${
    entry(
      THREADS,
      `  // The last tiles see the most keys: they start first.
  let tile = params.tiles - 1u - number % params.tiles;
  let head = (number / params.tiles) % params.heads;
  let batch = number / (params.tiles * params.heads);
  let kv_head = head / (params.heads / params.kv_heads);
  let first = tile * ${TILE}u;
  ${
        cached
          ? `if (thread == 0u) { shared_start = load_start(batch); }
  let start = workgroupUniformLoad(&shared_start);`
          : "let start = 0;"
      }
  ${range(4).map((r) => `let row${r} = first + y + ${8 * r}u;`).join("\n  ")}
  ${
        segments
          ? range(4).map((r) =>
            `let segment${r} = load_segments(batch * params.time + min(row${r}, params.time - 1u));`
          ).join("\n  ")
          : ""
      }
  // Keys that any query of the tile may see.
  var keys_end = i32(params.keys);
  if (params.causal == 1u) { keys_end = min(keys_end, start + i32(first) + ${TILE}); }
  var keys_first = 0;
  if (params.window > 0u) { keys_first = max(0, start + i32(first) - i32(params.window) + 1); }
  var top = vec4f(NOTHING);
  var total = vec4f(0.0);
  ${zeros(acc)}
  ${keep ? everyDepth(stageQueries) : ""}
  for (var key = (keys_first / ${TILE}) * ${TILE}; key < keys_end; key += ${TILE}) {
    let first_key = u32(key);
    ${zeros(four("s"))}
    ${
        everyDepth(`workgroupBarrier();
      ${keep ? "" : stageQueries}
      stage_k(batch, first_key, kv_head, d, ${kept}u, thread);
      workgroupBarrier();
      ${productWgsl([{ sums: "s", left: keep ? "d * 8u" : "0u", right: `${kept}u` }], DEPTH)}`)
      }
    ${range(4).map((j) => `let key${j} = key + i32(x) + ${8 * j};`).join("\n    ")}
    ${
        segments
          ? range(4).map((j) =>
            `let key_segment${j} = load_segments(batch * params.time + min(u32(key${j}), params.time - 1u));`
          ).join("\n    ")
          : ""
      }
    ${
        range(4).map((r) =>
          `let seen${r} = vec4<bool>(${
            range(4).map((j) =>
              `sees(${position(r)}, key${j})${segments ? ` && segment${r} == key_segment${j}` : ""}`
            ).join(", ")
          });
    s${r} = select(vec4f(NOTHING), vec4f(${
            range(4).map((j) => `score_of(s${r}.${"xyzw"[j]})`).join(", ")
          }), seen${r});`
        ).join("\n    ")
      }
    shared_rows[x * 8u + y] = vec4f(${range(4).map((r) => `largest(s${r})`).join(", ")});
    workgroupBarrier();
    var new_top = top;
    for (var i = 0u; i < 8u; i++) { new_top = max(new_top, shared_rows[i * 8u + y]); }
    let shrink = exp(top - new_top);
    top = new_top;
    ${
        range(4).map((r) => `s${r} = select(vec4f(0.0), exp(s${r} - top.${"xyzw"[r]}), seen${r});`)
          .join("\n    ")
      }
    total = total * shrink + vec4f(${range(4).map((r) => `dot(s${r}, vec4f(1.0))`).join(", ")});
    ${
        range(columns).flatMap((j) => range(4).map((r) => `acc${r}_${j} *= shrink.${"xyzw"[r]};`))
          .join("\n    ")
      }
    ${layTile("s")}
    ${
        gatherWgsl({
          x: "v",
          acc: "acc",
          quads: columns,
          staged,
          call: (channel) => `batch, first_key, kv_head, ${channel}u, STAGE_LAID, thread`,
        })
      }
  }
  workgroupBarrier();
  shared_rows[x * 8u + y] = total;
  workgroupBarrier();
  var sum = vec4f(0.0);
  for (var i = 0u; i < 8u; i++) { sum += shared_rows[i * 8u + y]; }
  // A query that sees nothing yields zeros.
  let share = select(1.0 / sum, vec4f(0.0), sum == vec4f(0.0));
  ${
        range(columns).flatMap((j) =>
          range(4).map((r) =>
            `put_out(batch, row${r}, head, ${32 * j}u + x * 4u, acc${r}_${j} * share.${"xyzw"[r]});`
          )
        ).join("\n  ")
      }
  ${
        cached ? "" : `if (x == 0u) {
    let at = (batch * params.heads + head) * params.time;
    ${
          range(4).map((r) =>
            `if (row${r} < params.time) { store_lse(at + row${r}, log_sum(top.${"xyzw"[r]}, sum.${
              "xyzw"[r]
            })); }`
          ).join("\n    ")
        }
  }`
      }`,
    )
  }
${
    cached ? "" : `
fn log_sum(top: f32, sum: f32) -> f32 {
  if (sum == 0.0) { return float_of(0xff800000u); }
  return top + log(sum);
}`
  }`;
}
