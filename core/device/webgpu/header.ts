/**
 * The part of a shader that follows from its pass: bindings, the uniform struct and dtype-aware
 * loads and stores. Only helpers that the shader names are printed, and sizes are never part of the
 * text, so equal texts are equal pipelines.
 *
 * Halves are read and written as whole 32-bit words with integer arithmetic: bf16 has no WGSL type,
 * and f16 done the same way rounds to nearest even on every driver and needs no feature.
 */

import { type Dtype, isHalf } from "../../graph/mod.ts";
import type { Binding, GpuPass } from "../../../kernels/lowering.ts";
import { helpersIn } from "../../../kernels/webgpu/scalars.ts";

/** Storage types of a pass's bindings, by name. */
export type BindingTypes = Readonly<Record<string, Dtype>>;

/** The whole text of a pass's shader. */
export function shaderText(pass: GpuPass, types: BindingTypes): string {
  const uses = (name: string) => new RegExp(`\\b${name}\\b`).test(pass.wgsl);
  const names = Object.keys(pass.bindings);
  const accessors = names.flatMap((name) => accessorsOf(name, pass.bindings[name], types[name]))
    .filter(([name]) => uses(name));
  const body = [...helpersIn(pass.wgsl), ...accessors.map(([, text]) => text), pass.wgsl].join(
    "\n",
  );
  const needed = new Set<string>();
  for (const [name] of halfHelpers) {
    if (new RegExp(`\\b${name}\\b`).test(body)) needed.add(name);
  }
  return [
    ...(/\bf16\b|\b\d+(\.\d*)?h\b/.test(pass.wgsl) ? ["enable f16;"] : []),
    ...names.map((name, i) =>
      `@group(0) @binding(${i}) var<storage, read_write> ${name}: array<${
        elementType(pass.bindings[name], types[name])
      }>;`
    ),
    ...uniformDeclaration(pass, names.length),
    ...halfHelpers.filter(([name]) => needed.has(name)).map(([, text]) => text),
    ...(uses("flatGroup") ? [flatGroup] : []),
    body,
  ].join("\n");
}

const flatGroup =
  `fn flatGroup(id: vec3<u32>, grid: vec3<u32>) -> u32 { return id.x + id.y * grid.x; }`;

const halfHelpers: readonly (readonly [string, string])[] = [
  [
    "bf16_bits",
    `fn bf16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}`,
  ],
  [
    // Below 2^-14 the result is a multiple of 2^-24: adding 0.5 lets the f32 adder round it there
    // (0.5 has ulp 2^-24).
    "f16_bits",
    `fn f16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  let small = bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u;
  let normal = (size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u;
  var half = select(normal, small, size < 0x38800000u);
  half = select(half, 0x7c00u, size >= 0x477ff000u);
  half = select(half, 0x7e00u, size > 0x7f800000u);
  return sign | half;
}`,
  ],
  [
    // Exact for denormals as well, which unpack2x16float may flush: 2^-24 for each unit of the last
    // place.
    "f16_value",
    `fn f16_value(half: u32) -> f32 {
  let sign = (half & 0x8000u) << 16u;
  let size = half & 0x7fffu;
  let normal = ((size << 13u) + 0x38000000u) | select(0u, 0x7f800000u, size >= 0x7c00u);
  let small = bitcast<u32>(f32(size) * 5.9604644775390625e-8);
  return bitcast<f32>(sign | select(normal, small, size < 0x400u));
}`,
  ],
];

function elementType({ vec4 }: Binding, dtype: Dtype): string {
  if (isHalf(dtype)) return vec4 ? "vec2<u32>" : "u32";
  return vec4 ? `vec4<${dtype}>` : dtype;
}

/**
 * Name and text of every helper that a binding can have. Their own names end in _, as a binding may
 * be called `v`.
 */
function accessorsOf(x: string, { vec4 }: Binding, dtype: Dtype): [string, string][] {
  if (isHalf(dtype)) return halfAccessors(x, dtype, vec4 === true);
  const t = dtype;
  if (vec4) {
    return [
      [`load_${x}`, `fn load_${x}(at_: u32) -> ${t} { return ${x}[at_ >> 2u][at_ & 3u]; }`],
      [`load4_${x}`, `fn load4_${x}(at_: u32) -> vec4<${t}> { return ${x}[at_]; }`],
      [`store4_${x}`, `fn store4_${x}(at_: u32, v_: vec4<${t}>) { ${x}[at_] = v_; }`],
    ];
  }
  return [
    [`load_${x}`, `fn load_${x}(at_: u32) -> ${t} { return ${x}[at_]; }`],
    [`store_${x}`, `fn store_${x}(at_: u32, v_: ${t}) { ${x}[at_] = v_; }`],
    [
      `load4_${x}`,
      `fn load4_${x}(at_: u32) -> vec4<${t}> { let first_ = 4u * at_; return vec4<${t}>(${x}[first_], ${x}[first_ + 1u], ${x}[first_ + 2u], ${x}[first_ + 3u]); }`,
    ],
    [
      `store4_${x}`,
      `fn store4_${x}(at_: u32, v_: vec4<${t}>) { let first_ = 4u * at_; ${x}[first_] = v_.x; ${x}[first_ + 1u] = v_.y; ${x}[first_ + 2u] = v_.z; ${x}[first_ + 3u] = v_.w; }`,
    ],
    [
      `store2_${x}`,
      `fn store2_${x}(pair_: u32, a_: ${t}, b_: ${t}) { ${x}[2u * pair_] = a_; ${x}[2u * pair_ + 1u] = b_; }`,
    ],
  ];
}

function halfAccessors(x: string, dtype: "bf16" | "f16", vec4: boolean): [string, string][] {
  const [low, high] = dtype === "bf16"
    ? [
      (w: string) => `bitcast<f32>(${w} << 16u)`,
      (w: string) => `bitcast<f32>(${w} & 0xffff0000u)`,
    ]
    : [(w: string) => `f16_value(${w} & 0xffffu)`, (w: string) => `f16_value(${w} >> 16u)`];
  const one = dtype === "bf16"
    ? (w: string, odd: string) => `bitcast<f32>((${w} >> (16u * ${odd})) << 16u)`
    : (w: string, odd: string) => `f16_value((${w} >> (16u * ${odd})) & 0xffffu)`;
  const pack = (a: string, b: string) => `${dtype}_bits(${a}) | (${dtype}_bits(${b}) << 16u)`;
  const word = (index: string) =>
    vec4 ? `${x}[(${index}) >> 1u][(${index}) & 1u]` : `${x}[${index}]`;
  const quad = vec4
    ? `let w_ = ${x}[at_];`
    : `let w_ = vec2<u32>(${x}[2u * at_], ${x}[2u * at_ + 1u]);`;
  const putQuad = vec4
    ? `${x}[at_] = vec2<u32>(${pack("v_.x", "v_.y")}, ${pack("v_.z", "v_.w")});`
    : `${x}[2u * at_] = ${pack("v_.x", "v_.y")}; ${x}[2u * at_ + 1u] = ${pack("v_.z", "v_.w")};`;
  return [
    [
      `load_${x}`,
      `fn load_${x}(at_: u32) -> f32 { return ${one(word("at_ >> 1u"), "(at_ & 1u)")}; }`,
    ],
    [
      `load2_${x}`,
      `fn load2_${x}(pair_: u32) -> vec2<f32> { let w_ = ${word("pair_")}; return vec2<f32>(${
        low("w_")
      }, ${high("w_")}); }`,
    ],
    [
      `load4_${x}`,
      `fn load4_${x}(at_: u32) -> vec4<f32> { ${quad} return vec4<f32>(${low("w_.x")}, ${
        high("w_.x")
      }, ${low("w_.y")}, ${high("w_.y")}); }`,
    ],
    ...(vec4 ? [] : [
      [
        `store2_${x}`,
        `fn store2_${x}(pair_: u32, a_: f32, b_: f32) { ${x}[pair_] = ${pack("a_", "b_")}; }`,
      ] as [
        string,
        string,
      ],
    ]),
    [`store4_${x}`, `fn store4_${x}(at_: u32, v_: vec4<f32>) { ${putQuad} }`],
  ];
}

function uniformDeclaration(pass: GpuPass, binding: number): string[] {
  const members = [
    ...Object.keys(pass.uints ?? {}).map((name) => `${name}: u32`),
    ...Object.keys(pass.floats ?? {}).map((name) => `${name}: f32`),
  ];
  if (members.length === 0) return [];
  return [
    `struct Params { ${members.join(", ")} }`,
    `@group(0) @binding(${binding}) var<uniform> params: Params;`,
  ];
}

/** The uniform's bytes, in the order of the declaration; empty where the pass has no numbers. */
export function uniformBytes({ uints = {}, floats = {} }: GpuPass): Uint8Array<ArrayBuffer> {
  const integers = Object.values(uints), numbers = Object.values(floats);
  const words = Math.ceil((integers.length + numbers.length) / 4) * 4;
  const view = new DataView(new ArrayBuffer(words * 4));
  integers.forEach((value, i) => view.setUint32(4 * i, value, true));
  numbers.forEach((value, i) => view.setFloat32(4 * (integers.length + i), value, true));
  return new Uint8Array(view.buffer);
}
