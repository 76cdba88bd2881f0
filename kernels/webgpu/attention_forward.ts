/**
 * WGSL of attention's forward pass: one workgroup a tile of 32 or 64 queries of one head, online
 * softmax over tiles of keys.
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

export interface ForwardForm {
  readonly width: number;
  readonly softcap: boolean;
  readonly segments: boolean;
  /** Queries stand at `start` of their batch row in a cache; the log-sum-exp is not wanted. */
  readonly cached: boolean;
  /**
   * The queries' tile stays in workgroup memory instead of coming from the cache for each tile of
   * keys.
   */
  readonly keep: boolean;
  /**
   * Groups of 32 queries in a tile: with two, a thread holds eight rows and loads less for each
   * product.
   */
  readonly groups: number;
}

const DEPTH = 32;

/**
 * Units of the stage: queries, then keys (turned) or values (laid), 64 channels where queries are
 * kept.
 */
function layout({ width, keep, groups }: ForwardForm) {
  const depths = Math.ceil(width / DEPTH), perGroup = (keep ? depths : 1) * DEPTH / 4;
  const laid = keep && width > 32 ? 16 : 8;
  return { depths, perGroup, kept: groups * perGroup, laid, units: groups * perGroup + laid };
}

export function forwardBytes(form: ForwardForm): number {
  const vectors = 32 * layout(form).units + weightsSize(form.groups) + THREADS * form.groups;
  return 16 * vectors + (form.cached ? 4 : 0);
}

export function forwardWgsl(form: ForwardForm): string {
  const { width, softcap, segments, cached, keep, groups } = form;
  const { depths, perGroup, kept, laid, units } = layout(form);
  const quads = width % 4 === 0, columns = Math.ceil(width / 32);
  const rows = range(4 * groups), all = range(groups);
  const q = { x: "q", time: "time", heads: "heads", quads };
  const k = { x: "k", time: "keys", heads: "kv_heads", quads }, v = { ...k, x: "v" };
  const out = { ...q, x: "out" };
  const acc = accumulators("acc", groups, columns);
  /** Row r's component of a vector that each group has. */
  const of = (name: string, r: number) => `${name}${Math.floor(r / 4)}.${"xyzw"[r % 4]}`;
  const unitOf = (g: number) => keep ? `${g * perGroup}u + d / 4u` : `${g * perGroup}u`;
  const stageQueries = all.map((g) =>
    `stage_q(batch, first + ${TILE * g}u, head, d, ${unitOf(g)}, thread);`
  ).join(" ");
  const everyDepth = (body: string) =>
    `for (var d = 0u; d < ${depths * DEPTH}u; d += ${DEPTH}u) {
      ${body}
    }`;
  const overLanes = (g: number, f: (value: string) => string) =>
    range(8).map((i) => f(`shared_rows[${g}][${i}][y]`)).join(" ");
  return `
// Below every score: what the maximum of nothing is. Not infinite, as infinities may be assumed away.
const NOTHING = -1e38;
${unitsWgsl("stage", units)}
${weightsWgsl(groups)}
var<workgroup> shared_rows: array<array<array<vec4f, 8>, 8>, ${groups}>;
${cached ? "var<workgroup> shared_start: i32;" : ""}
${[q, k, v].map(rowWgsl).join("")}${stageWgsl(q)}${stageWgsl(k)}${layWgsl(v, laid)}${putWgsl(out)}
${scoreWgsl(softcap)}
fn largest(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn log_sum(top: f32, sum: f32) -> f32 {
  if (sum == 0.0) { return float_of(0xff800000u); }
  return top + log(sum);
}
${
    entry(
      THREADS,
      `  // The last tiles see the most keys: they start first.
  let tile = params.tiles - 1u - number % params.tiles;
  let head = (number / params.tiles) % params.heads;
  let batch = number / (params.tiles * params.heads);
  let kv_head = head / (params.heads / params.kv_heads);
  let first = tile * ${TILE * groups}u;
  ${
        cached
          ? `if (thread == 0u) { shared_start = load_start(batch); }
  let start = workgroupUniformLoad(&shared_start);`
          : "let start = 0;"
      }
  ${rows.map((r) => `let row${r} = first + y + ${8 * r}u;`).join("\n  ")}
  ${
        segments
          ? rows.map((r) =>
            `let segment${r} = load_segments(batch * params.time + min(row${r}, params.time - 1u));`
          ).join("\n  ")
          : ""
      }
  // Keys that any query of the tile may see.
  var keys_end = i32(params.keys);
  if (params.causal == 1u) { keys_end = min(keys_end, start + i32(first) + ${TILE * groups}); }
  var keys_first = 0;
  if (params.window > 0u) { keys_first = max(0, start + i32(first) - i32(params.window) + 1); }
  ${all.map((g) => `var top${g} = vec4f(NOTHING);\n  var total${g} = vec4f(0.0);`).join("\n  ")}
  ${zeros(acc)}
  ${keep ? everyDepth(stageQueries) : ""}
  for (var key = (keys_first / ${TILE}) * ${TILE}; key < keys_end; key += ${TILE}) {
    let first_key = u32(key);
    ${zeros(rowsOf("s", groups))}
    ${
        everyDepth(`workgroupBarrier();
      ${keep ? "" : stageQueries}
      stage_k(batch, first_key, kv_head, d, ${kept}u, thread);
      workgroupBarrier();
      ${productWgsl([{ sums: "s", left: all.map(unitOf), right: `${kept}u` }], DEPTH)}`)
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
        rows.map((r) =>
          `let seen${r} = vec4<bool>(${
            range(4).map((j) =>
              `sees(i32(row${r}) + start, key${j})${
                segments ? ` && segment${r} == key_segment${j}` : ""
              }`
            ).join(", ")
          });
    s${r} = select(vec4f(NOTHING), vec4f(${
            range(4).map((j) => `score_of(s${r}.${"xyzw"[j]})`).join(", ")
          }), seen${r});`
        ).join("\n    ")
      }
    ${
        all.map((g) =>
          `shared_rows[${g}][x][y] = vec4f(${
            range(4).map((r) => `largest(s${4 * g + r})`).join(", ")
          });`
        ).join("\n    ")
      }
    workgroupBarrier();
    ${
        all.map((g) =>
          `var new_top${g} = top${g};
    ${overLanes(g, (value) => `new_top${g} = max(new_top${g}, ${value});`)}
    let shrink${g} = exp(top${g} - new_top${g});
    top${g} = new_top${g};`
        ).join("\n    ")
      }
    ${
        rows.map((r) => `s${r} = select(vec4f(0.0), exp(s${r} - ${of("top", r)}), seen${r});`)
          .join("\n    ")
      }
    ${
        all.map((g) =>
          `total${g} = total${g} * shrink${g} + vec4f(${
            range(4).map((r) => `dot(s${4 * g + r}, vec4f(1.0))`).join(", ")
          });`
        ).join("\n    ")
      }
    ${
        range(columns).flatMap((j) => rows.map((r) => `acc${r}_${j} *= ${of("shrink", r)};`))
          .join("\n    ")
      }
    ${layTile("s", groups)}
    ${
        gatherWgsl({
          x: "v",
          acc: "acc",
          groups,
          quads: columns,
          laid,
          at: kept,
          lay: (channel) => `batch, first_key, kv_head, ${channel}u`,
        })
      }
  }
  workgroupBarrier();
  ${all.map((g) => `shared_rows[${g}][x][y] = total${g};`).join("\n  ")}
  workgroupBarrier();
  ${
        all.map((g) =>
          `var sum${g} = vec4f(0.0);
  ${overLanes(g, (value) => `sum${g} += ${value};`)}
  // A query that sees nothing yields zeros.
  let share${g} = select(1.0 / sum${g}, vec4f(0.0), sum${g} == vec4f(0.0));`
        ).join("\n  ")
      }
  ${
        range(columns).flatMap((j) =>
          rows.map((r) =>
            `put_out(batch, row${r}, head, ${32 * j}u + x * 4u, acc${r}_${j} * ${of("share", r)});`
          )
        ).join("\n  ")
      }
  ${
        cached ? "" : `if (x == 0u) {
    let at = (batch * params.heads + head) * params.time;
    ${
          rows.map((r) =>
            `if (row${r} < params.time) { store_lse(at + row${r}, log_sum(${of("top", r)}, ${
              of("sum", r)
            })); }`
          ).join("\n    ")
        }
  }`
      }`,
    )
  }`;
}
