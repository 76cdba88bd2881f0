/**
 * WASM modules as bytes, put together from functions; what kernels are written with is exported
 * from here too (`builder.ts`, `opcodes.ts`). All kernels of a plan go into one module, compiled
 * once.
 */

import { flatten, FunctionBuilder, local, typeBytes, vector } from "./builder.ts";
import { type Bytes, unsigned, type ValueType } from "./opcodes.ts";

export { addressType, defineHelper, FunctionBuilder, type Helper } from "./builder.ts";
export * from "./opcodes.ts";

/** The largest 32-bit memory; pages that are never touched cost nothing. */
export const maximumPages = 65536;

function section(id: number, items: readonly Bytes[]): Bytes {
  const content = flatten(vector(items), () => 0);
  return [id, unsigned(content.length), content];
}

function text(value: string): Bytes {
  const bytes = [...new TextEncoder().encode(value)];
  return [unsigned(bytes.length), bytes];
}

/**
 * A module that imports a shared memory as `env.memory` and exports every function by its name. The
 * memory must be created with the same `pages`, as initial and as maximum.
 */
export function encodeModule(
  functions: readonly { readonly name: string; readonly builder: FunctionBuilder }[],
  pages = maximumPages,
): Uint8Array<ArrayBuffer> {
  const builders = functions.map(({ builder }) => builder), indices = new Map<string, number>();
  for (let n = 0; n < builders.length; n++) { // grows while helpers bring in helpers
    for (const [key, helper] of builders[n].helpers) {
      if (indices.has(key)) continue;
      indices.set(key, builders.length);
      const f = new FunctionBuilder(helper.params);
      helper.build(f, ...helper.params.map((_, index) => local<ValueType>(index)));
      builders.push(f);
    }
  }
  const signatures = builders.map((
    { params },
  ): Bytes => [0x60, vector(params.map((type) => [typeBytes[type]])), 0]);
  const types = [
    ...new Map(signatures.map((signature) => [flatten(signature, () => 0).join(), signature])),
  ];
  const typeIndex = (signature: Bytes) =>
    types.findIndex(([key]) => key === flatten(signature, () => 0).join());
  return new Uint8Array(flatten([
    [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(1, types.map(([, signature]) => signature)),
    section(2, [[text("env"), text("memory"), 2, 3, unsigned(pages), unsigned(pages)]]),
    section(3, signatures.map((signature) => unsigned(typeIndex(signature)))),
    section(7, functions.map(({ name }, n) => [text(name), 0, unsigned(n)])),
    section(10, builders.map((builder) => builder.bytes((callee) => indices.get(callee)!))),
  ], () => 0));
}

/** The module of a list of kernels, each exported by its key. Equal keys are emitted once. */
export function encodeKernels(
  kernels: readonly { readonly key: string; build(f: FunctionBuilder): void }[],
  pages = maximumPages,
): Uint8Array<ArrayBuffer> {
  const unique = new Map(kernels.map((kernel) => [kernel.key, kernel]));
  return encodeModule(
    [...unique].map(([name, kernel]) => {
      const builder = new FunctionBuilder();
      kernel.build(builder);
      return { name, builder };
    }),
    pages,
  );
}
