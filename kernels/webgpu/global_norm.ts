/**
 * The norm of many tensors: partial sums of squares, several tensors a dispatch, then one workgroup
 * that makes norm and gate.
 */

import { type OpContext, sizeOf } from "../../core/graph/mod.ts";
import { foldGrid, type GpuKernel, type GpuPass, input, output, scratch } from "../lowering.ts";

const WORKGROUP = 256;
/**
 * Elements of one thread before more workgroups are taken, and the most workgroups for a tensor.
 */
const PER_THREAD = 16, MOST_GROUPS = 1024;
/** Tensors a dispatch, fewer where the device binds fewer buffers. */
const TOGETHER = 7;

const groupsFor = (size: number) =>
  Math.min(Math.max(1, Math.ceil(size / (WORKGROUP * PER_THREAD))), MOST_GROUPS);

function gradients({ inputs }: OpContext): { index: number; size: number }[] {
  return inputs.slice(2).map(({ shape }, i) => ({ index: i + 2, size: sizeOf(shape) }))
    .filter(({ size }) => size > 0);
}

const partials = (node: OpContext) =>
  gradients(node).reduce((sum, { size }) => sum + groupsFor(size), 0);

// Sums and marks of what is not finite, told by the exponent's bits: two arrays joined by one tree.
const tree = `
var<workgroup> sums: array<f32, ${WORKGROUP}>;
var<workgroup> marks: array<u32, ${WORKGROUP}>;
fn join(lane: u32, sum: f32, mark: u32) {
  sums[lane] = sum;
  marks[lane] = mark;
  workgroupBarrier();
  for (var half = ${WORKGROUP / 2}u; half > 0u; half >>= 1u) {
    if (lane < half) {
      sums[lane] += sums[lane + half];
      marks[lane] |= marks[lane + half];
    }
    workgroupBarrier();
  }
}`;
const entry = `@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {`;

function partialPass(tensors: readonly { index: number; size: number }[], first: number): GpuPass {
  const uints: Record<string, number> = { first };
  let groups = 0;
  const parts = tensors.map(({ size }, i) => {
    uints[`size${i}`] = size;
    uints[`begin${i}`] = groups;
    uints[`groups${i}`] = groupsFor(size);
    groups += groupsFor(size);
    return `if (group >= params.begin${i} && group - params.begin${i} < params.groups${i}) {
    for (var i = (group - params.begin${i}) * ${WORKGROUP}u + lane; i < params.size${i}; i += params.groups${i} * ${WORKGROUP}u) {
      let g = load_g${i}(i);
      sum += g * g;
      mark |= select(1u, 0u, is_finite(g));
    }
  }`;
  });
  return {
    wgsl: `${tree}
${entry}
  let group = flatGroup(id, grid);
  var sum = 0.0;
  var mark = 0u;
  ${parts.join("\n  ")}
  join(lane, sum, mark);
  if (lane == 0u && group < params.groups) {
    store_sums_out(params.first + group, sums[0]);
    store_marks_out(params.first + group, marks[0]);
  }
}`,
    bindings: {
      ...Object.fromEntries(tensors.map(({ index }, i) => [`g${i}`, input(index)])),
      sums_out: scratch(0),
      marks_out: scratch(1),
    },
    uints: { ...uints, groups },
    grid: foldGrid(groups),
    workgroupBytes: 8 * WORKGROUP,
  };
}

const last = `${tree}
${entry}
  var sum = 0.0;
  var mark = 0u;
  for (var i = lane; i < params.partials; i += ${WORKGROUP}u) {
    sum += load_sums_in(i);
    mark |= load_marks_in(i);
  }
  join(lane, sum, mark);
  if (lane > 0u) { return; }
  let count = max(load_count(0u), 1.0);
  let norm = sqrt(sums[0]) / count;
  let finite = marks[0] == 0u && is_finite(sums[0]) && is_finite(norm);
  let most = load_max_norm(0u);
  let limited = select(1.0, min(1.0, most / (norm + 1e-6)), most > 0.0);
  store_norm(0u, norm);
  store_gate(0u, select(0.0, limited / count, finite));
  store_gate(1u, select(0.0, 1.0, finite));
}`;

export const globalNormKernel: GpuKernel = {
  name: "partials",
  scratch: (node) => [
    { shape: [partials(node)], dtype: "f32" },
    { shape: [partials(node)], dtype: "u32" },
  ],
  passes(node, { maxStorageBuffers }) {
    const all = gradients(node), passes: GpuPass[] = [];
    const together = Math.max(1, Math.min(TOGETHER, maxStorageBuffers - 2));
    let first = 0;
    for (let at = 0; at < all.length; at += together) {
      const some = all.slice(at, at + together);
      passes.push(partialPass(some, first));
      first += some.reduce((sum, { size }) => sum + groupsFor(size), 0);
    }
    return [...passes, {
      wgsl: last,
      bindings: {
        count: input(0),
        max_norm: input(1),
        norm: output(0),
        gate: output(1),
        sums_in: scratch(0),
        marks_in: scratch(1),
      },
      uints: { partials: first },
      grid: [1, 1, 1],
      workgroupBytes: 8 * WORKGROUP,
    }];
  },
};
