/**
 * Where a product goes: stored as it is, added to what is there, or put through a fused program
 * first. Kernels end in `store_quad(z, row, column, v)`: four neighbours of a row of matrix `z`, of
 * which those beyond the row's end are dropped.
 */

import type { Dtype } from "../../core/graph/mod.ts";
import type { FusedProgram } from "../fused.ts";
import { type Binding, bytesPerElement, type Operand } from "../lowering.ts";
import { stepsWgsl } from "./scalars.ts";

export interface SinkOutput {
  readonly at: Operand;
  readonly dtype: Dtype;
  /** First element written. */
  readonly offset?: number;
}

export interface Sink {
  readonly outputs: readonly SinkOutput[];
  /** Adds to the (single, f32) output instead of replacing it. */
  readonly accumulate?: boolean;
  /** The program's input 0 is the product; `inputs` are the others. */
  readonly epilogue?: { readonly program: FusedProgram; readonly inputs: readonly Operand[] };
}

const storesQuads = ({ offset = 0 }: SinkOutput, quads: boolean) => quads && offset % 4 === 0;

/**
 * Outputs are `c0`, `c1`, …; the epilogue's inputs `e1`, `e2`, … `quads`: every quad is whole and
 * aligned.
 */
export function sinkBindings(sink: Sink, quads: boolean): Record<string, Binding> {
  const bindings: Record<string, Binding> = {};
  sink.epilogue?.inputs.forEach((at, i) => bindings[`e${i + 1}`] = at);
  sink.outputs.forEach((out, i) =>
    bindings[`c${i}`] = { ...out.at, vec4: storesQuads(out, quads) }
  );
  return bindings;
}

export function sinkParams({ outputs, epilogue }: Sink): Record<string, number> {
  const params: Record<string, number> = {};
  outputs.forEach(({ offset = 0 }, i) => params[`c${i}_offset`] = offset);
  epilogue?.program.accesses.forEach(({ strides, offset }, i) => {
    if (i === 0) return;
    params[`e${i}_offset`] = offset;
    strides.forEach((stride, axis) => params[`e${i}_stride${axis}`] = stride);
  });
  return params;
}

/**
 * The program's constants: not in the text, so that layers which differ in them share pipelines.
 */
export function sinkFloats({ epilogue }: Sink): Record<string, number> {
  return Object.fromEntries(
    (epilogue?.program.steps ?? []).flatMap((step, i) =>
      step.op === "constant" ? [[`constant${i}`, step.value]] : []
    ),
  );
}

/** The program as a function of one element of the product. */
function epilogueWgsl({ outputs, epilogue }: Sink): string {
  if (!epilogue) return "";
  const { program } = epilogue;
  const load = (i: number) =>
    i === 0
      ? "product"
      : `f32(load_e${i}(params.e${i}_offset + z * params.e${i}_stride0 + row * params.e${i}_stride1 + ` +
        `column * params.e${i}_stride2))`;
  const { lines, values } = stepsWgsl(program, load, (_, step) => `params.constant${step}`);
  const fields = outputs.map((_, o) => `f${o}: f32`).join(", ");
  return `
struct Finished { ${fields} }
fn finish(z: u32, row: u32, column: u32, product: f32) -> Finished {
  ${lines.join("\n  ")}
  return Finished(${program.outputs.map(({ value }) => values[value]).join(", ")});
}`;
}

/**
 * `store_run(at, count, …)`: the first `count` of four neighbours, which begin a quad if `quads`,
 * else anywhere (halves: an even place).
 */
function storeRunWgsl({ outputs, accumulate }: Sink, quads: boolean): string {
  const stores = outputs.map((out, o) => {
    const c = `c${o}`, at = `at + params.${c}_offset`;
    if (storesQuads(out, quads)) {
      const place = `(${at}) / 4u`;
      return accumulate
        ? `store4_${c}(${place}, load4_${c}(${place}) + v${o});`
        : `store4_${c}(${place}, v${o});`;
    }
    if (bytesPerElement(out.dtype) === 2) {
      return `store2_${c}((${at}) / 2u, v${o}.x, v${o}.y);
  if (count > 2u) { store2_${c}((${at}) / 2u + 1u, v${o}.z, v${o}.w); }`;
    }
    const one = (i: number) =>
      `store_${c}(${at} + ${i}u, ${accumulate ? `load_${c}(${at} + ${i}u) + ` : ""}v${o}.${
        "xyzw"[i]
      });`;
    return `${one(0)}
  if (count > 1u) { ${one(1)} }
  if (count > 2u) { ${one(2)} }
  if (count > 3u) { ${one(3)} }`;
  });
  const values = outputs.map((_, o) => `v${o}: vec4f`).join(", ");
  return `
fn store_run(at: u32, count: u32, ${values}) {
  ${stores.join("\n  ")}
}`;
}

const gather = (o: number) => `vec4f(r0.f${o}, r1.f${o}, r2.f${o}, r3.f${o})`;

/**
 * Gives `store_quad(z, row, column, v)`; wants `params.m`, `params.n` and those of `sinkParams`.
 */
export function finishWgsl(sink: Sink, quads: boolean): string {
  const finished = sink.epilogue
    ? [0, 1, 2, 3].map((i) => `let r${i} = finish(z, row, column + ${i}u, v.${"xyzw"[i]});`).join(
      "\n  ",
    )
    : "";
  const values = sink.epilogue ? sink.outputs.map((_, o) => gather(o)).join(", ") : "v";
  return `${epilogueWgsl(sink)}${storeRunWgsl(sink, quads)}
fn store_quad(z: u32, row: u32, column: u32, v: vec4f) {
  if (row >= params.m || column >= params.n) { return; }
  ${finished}
  store_run((z * params.m + row) * params.n + column, min(params.n - column, 4u), ${values});
}
`;
}

/**
 * Adds up `params.splits` partial results of `params.size` elements each; one thread a quad of
 * them, whatever rows they are in.
 */
export function sumPartialsWgsl(sink: Sink, quads: boolean): string {
  const element = (i: number) =>
    `let at${i} = at + ${i}u;
  let r${i} = finish(at${i} / area, (at${i} % area) / params.n, at${i} % params.n, v.${
      "xyzw"[i]
    });`;
  const finished = sink.epilogue
    ? `let area = params.m * params.n;\n  ${[0, 1, 2, 3].map(element).join("\n  ")}`
    : "";
  const values = sink.epilogue ? sink.outputs.map((_, o) => gather(o)).join(", ") : "v";
  const load = quads
    ? "load4_partials(start / 4u)"
    // Reads beyond the last part's end are dropped with what they would be added to.
    : "vec4f(load_partials(start), load_partials(start + 1u), load_partials(start + 2u), load_partials(start + 3u))";
  return `${epilogueWgsl(sink)}${storeRunWgsl(sink, quads)}
@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = ((group.x + group.y * groups.x) * 256u + thread) * 4u;
  if (at >= params.size) { return; }
  var v = vec4f(0.0);
  for (var part = 0u; part < params.splits; part++) {
    let start = part * params.size + at;
    v += ${load};
  }
  ${finished}
  store_run(at, min(params.size - at, 4u), ${values});
}
`;
}
