/** What can be said and done with parameters before a device has them: counts, and first values. */

import { leavesOf, normals, sizeOf, uniforms } from "../graph/mod.ts";
import { orthogonal } from "./orthogonal.ts";
import { type ParamDescription, type Role, roles } from "../nn/mod.ts";

export interface NamedParam extends ParamDescription {
  /** Its place in the tree: `layers.3.mlp.up`. */
  readonly path: string;
}

export function namedParams(tree: unknown): NamedParam[] {
  return leavesOf<ParamDescription>(tree).map(({ path, leaf }) => ({ ...leaf, path }));
}

/**
 * First values, from the seed and the parameter's own path: adding a part changes no other part's
 * start.
 */
export function initialValues({ path, shape, init }: NamedParam, seed: number): Float32Array {
  const size = sizeOf(shape), stream = `init.${path}`;
  switch (init.kind) {
    case "constant":
      return new Float32Array(size).fill(init.value);
    case "normal":
      return normals(seed, stream, size).map((x) => x * init.std);
    case "orthogonal":
      return orthogonal(seed, stream, shape[0], shape[1]);
    case "uniform":
      return uniforms(seed, stream, size).map((x) => init.low + (init.high - init.low) * x);
    case "log_of_uniform":
      return uniforms(seed, stream, size).map((x) => Math.log(init.high * x));
    case "identity_taps": {
      const last = size - shape[1];
      return normals(seed, stream, size).map((x, i) => x * init.std + (i < last ? 0 : 1));
    }
  }
}

/** Parameters of one part of the model, by role. */
export interface PartCount {
  /** `input`, `layers.*.mixer`, …: layers are taken together. */
  readonly part: string;
  readonly total: number;
  readonly byRole: Readonly<Partial<Record<Role, number>>>;
}

/** The part of the model that a parameter belongs to: `input`, `layers.*.mixer`, …. */
export function modelPartOf(path: string): string {
  return path.replace(/^layers\.\d+/, "layers.*").match(/^layers\.\*\.\w+|^\w+/)![0];
}

export function countByPart(params: readonly NamedParam[]): PartCount[] {
  const counts = new Map<string, Partial<Record<Role, number>>>();
  for (const { path, role, shape } of params) {
    const part = modelPartOf(path), count = counts.get(part) ?? {};
    counts.set(part, { ...count, [role]: (count[role] ?? 0) + sizeOf(shape) });
  }
  return [...counts].map(([part, byRole]) => ({
    part,
    byRole,
    total: Object.values(byRole).reduce((sum, n) => sum + n, 0),
  }));
}

/** One line of the roles' table: how many tensors and numbers an optimizer group has. */
export interface RoleCount {
  readonly role: Role;
  readonly tensors: number;
  readonly total: number;
}

export function countByRole(params: readonly NamedParam[]): RoleCount[] {
  return roles.map((role) => {
    const group = params.filter((param) => param.role === role);
    return {
      role,
      tensors: group.length,
      total: group.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    };
  }).filter(({ tensors }) => tensors > 0);
}

export function countAll(params: readonly NamedParam[]): number {
  return params.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}
