/**
 * WGSL between the products of the loss head: from a row of logits to its loss and, in place, its
 * slopes.
 */

export interface LossForm {
  /** Logits are bound as vectors: the vocabulary is a multiple of four. */
  readonly quads: boolean;
  readonly softcap: boolean;
  readonly weighted: boolean;
  /** Logits become dloss/dlogits, exact zeros for ignored tokens. */
  readonly slopes: boolean;
}

const LANES = 256;
export const lossBytes = 4 * (3 * LANES + 1);

const tree = (body: string) =>
  `for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { ${body} }
  }
  workgroupBarrier();`;

/**
 * One row a workgroup. Every lane comes back to the logits that it read, so that slopes overwrite
 * nothing that is still wanted.
 */
export function lossRowsWgsl({ quads, softcap, weighted, slopes }: LossForm): string {
  const type = quads ? "vec4f" : "f32", load = quads ? "load4_logits" : "load_logits";
  const store = quads ? "store4_logits" : "store_logits", step = quads ? 4 : 1;
  const each = (f: (x: string) => string) =>
    quads ? `vec4f(${[..."xyzw"].map((c) => f(`v.${c}`)).join(", ")})` : f("v");
  const cap = `params.softcap * tanh_of(X / params.softcap)`;
  const isTarget = (i: number) => `select(0.0, 1.0, i + ${i}u == wanted)`;
  return `
const NOTHING = -1e38;
var<workgroup> tops: array<f32, ${LANES}>;
var<workgroup> sums: array<f32, ${LANES}>;
var<workgroup> totals: array<f32, ${LANES}>;
var<workgroup> picked: f32;
fn largest(v: ${type}) -> f32 { return ${quads ? "max(max(v.x, v.y), max(v.z, v.w))" : "v"}; }
fn total(v: ${type}) -> f32 { return ${quads ? "dot(v, vec4f(1.0))" : "v"}; }
fn capped(v: ${type}) -> ${type} { return ${softcap ? each((x) => cap.replace("X", x)) : "v"}; }
@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let token = params.first + row;
  let label = load_targets(token);
  let factor = ${weighted ? "load_weights(token)" : "1.0"};
  let ignored = label < 0 || label >= i32(params.vocab) || factor == 0.0;
  let wanted = select(u32(label), 0u, ignored);
  let row_at = row * params.vocab;
  if (thread == 0u) { picked = 0.0; }
  workgroupBarrier();
  var top = NOTHING;
  var sum = 0.0;
  var all = 0.0;
  for (var i = thread * ${step}u; i < params.vocab; i += ${LANES * step}u) {
    let v = capped(${load}((row_at + i) / ${step}u));
    if (wanted >= i && wanted - i < ${step}u) { picked = ${quads ? "v[wanted - i]" : "v"}; }
    let new_top = max(top, largest(v));
    sum = sum * exp(top - new_top) + total(exp(v - new_top));
    top = new_top;
    all += total(v);
  }
  tops[thread] = top;
  sums[thread] = sum;
  totals[thread] = all;
  ${
    tree(`
      let other = thread + half;
      let new_top = max(tops[thread], tops[other]);
      sums[thread] = sums[thread] * exp(tops[thread] - new_top) + sums[other] * exp(tops[other] - new_top);
      tops[thread] = new_top;
      totals[thread] += totals[other];
    `)
  }
  let lse = tops[0] + log(sums[0]);
  if (thread == 0u) {
    let mean = totals[0] / f32(params.vocab);
    let loss = lse - (1.0 - params.smoothing) * picked - params.smoothing * mean + params.z_loss * lse * lse;
    store_losses(token, select(loss, 0.0, ignored));
  }
  ${
    slopes
      ? `let scale = factor * (1.0 + 2.0 * params.z_loss * lse);
  let even = factor * params.smoothing / f32(params.vocab);
  let pull = factor * (1.0 - params.smoothing);
  for (var i = thread * ${step}u; i < params.vocab; i += ${LANES * step}u) {
    let v = capped(${load}((row_at + i) / ${step}u));
    let hit = ${quads ? `vec4f(${[0, 1, 2, 3].map(isTarget).join(", ")})` : isTarget(0)};
    var slope = exp(v - lse) * scale - even - hit * pull;
    ${softcap ? "let t = v / params.softcap;\n    slope *= 1.0 - t * t;" : ""}
    ${store}((row_at + i) / ${step}u, select(slope, ${type}(0.0), ignored));
  }`
      : ""
  }
}
`;
}

/** The weighted sum of all losses, by one workgroup. */
export const lossSumWgsl = (weighted: boolean) => `
var<workgroup> sums: array<f32, ${LANES}>;
@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) thread: u32) {
  var sum = 0.0;
  for (var token = thread; token < params.tokens; token += ${LANES}u) {
    ${weighted ? "sum += load_losses(token) * load_weights(token);" : "sum += load_losses(token);"}
  }
  sums[thread] = sum;
  ${tree("sums[thread] += sums[thread + half];")}
  if (thread == 0u) { store_sum(0u, sums[0]); }
}
`;
