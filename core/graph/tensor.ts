/**
 * Tensors and nodes: the immutable graph that tracing leaves behind.
 *
 * A tensor is the output of a node. It has no data, no gradient and no lifetime: calling an op adds
 * a node, nothing is computed. Nodes are numbered in the order in which they are made, so inputs
 * always have smaller numbers.
 */

/** Storage types. Arithmetic is always f32; `bf16` is packed two to a 32-bit word. */
export type Dtype = "f32" | "bf16" | "f16" | "i32" | "u32";

/** What is known of a tensor before it is computed. A shape of `[]` is a scalar. */
export interface Spec {
  readonly shape: readonly number[];
  readonly dtype: Dtype;
}

export interface Tensor extends Spec {
  readonly node: Node;
  /** Which output of the node this is. */
  readonly index: number;
}

/** Plain data fixed while tracing; part of what makes two nodes equal. */
export type Attrs = Readonly<Record<string, unknown>>;

/** A number as text that tells −0 from 0, which `String` does not. */
export function numberText(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

export interface Node {
  readonly id: number;
  readonly op: Op;
  readonly inputs: readonly Tensor[];
  readonly attrs: Attrs;
  readonly outputs: readonly Tensor[];
  /** Where in the model it was made, e.g. `layers.3.mlp.up`. */
  readonly path: string;
}

/** What the plain loops read and write: f32 storage in runs, f64 in tests of slopes. */
export type Numbers = Float32Array | Float64Array | Int32Array | Uint32Array;

/** FLOPs and bytes moved by one node, for plans and rooflines. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** What the reference loop and the lowerings of an op are told about a node. */
export interface OpContext {
  readonly inputs: readonly Spec[];
  readonly outputs: readonly Spec[];
  readonly attrs: Attrs;
}

/**
 * An operation: one record, one place. `kernels` (WGSL) and `wasm` are typed by `kernels/`; here
 * they are opaque, so that the graph knows nothing of devices.
 */
export interface Op {
  readonly name: string;
  /** Shapes and types in, output specs out; throws `ShapeError`. Needs no data. */
  check(inputs: readonly Spec[], attrs: Attrs): readonly Spec[];
  /**
   * The plain loop: the specification, the oracle, and what the cpu device runs where there is no
   * faster form.
   */
  reference(inputs: readonly Numbers[], outputs: readonly Numbers[], context: OpContext): void;
  /**
   * The cotangents of the inputs, as more graph. `undefined` where an input gets none. Ops without
   * a `vjp` are constants for differentiation when `differentiable` is false, and an error when a
   * gradient would have to pass through them.
   */
  vjp?(
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    cotangents: readonly (Tensor | undefined)[],
    attrs: Attrs,
  ): readonly (Tensor | undefined)[];
  cost?(context: OpContext): Cost;
  /** Output index → input index whose storage it may take over: the op writes in place. */
  readonly inplace?: Readonly<Record<number, number>>;
  /** Computed on the host from uploaded inputs at each run, then uploaded with them. */
  readonly host?: boolean;
  /** Reads no input and yields the same bytes each time it is planned (constants). */
  readonly constant?: boolean;
  /** A graph input: filled from outside. */
  readonly placeholder?: boolean;
  /** Only another view of its input's storage (reshape). */
  readonly alias?: boolean;
  /** So little work that the backward pass does it again rather than keep the result. */
  readonly cheap?: boolean;
  /** What of it is stored as bf16 where a model trains so (`kernels/precision.ts`). */
  readonly halves?: Halves;
  /**
   * Name of the op whose outputs are a prefix of ours for equal inputs and attrs: where both occur,
   * ours serves both.
   */
  readonly supersedes?: string;
  readonly kernels?: unknown;
  readonly wasm?: unknown;
}

/** Operands and outputs that may be rounded to 16 bits; all others stay as they are. */
export interface Halves {
  /** Operands that are rounded before they are read. */
  readonly reads?: readonly number[];
  /** Operands that are read as they are, and rounded where the backward pass reads them again. */
  readonly keeps?: readonly number[];
  /** Outputs that are rounded as they are stored; the op's kernels do it where `stores` allows. */
  readonly makes?: readonly number[];
  /** Left out: always. */
  stores?(inputs: readonly Spec[]): boolean;
}

/**
 * A shape or type that an op cannot take. The message names the op, the operands' shapes and the
 * model path.
 */
export class ShapeError extends Error {
  override name = "ShapeError";
}

export function spec(shape: readonly number[], dtype: Dtype = "f32"): Spec {
  return { shape, dtype };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Bytes of storage; packed types are rounded up to whole 32-bit words. */
export function bytesOf({ shape, dtype }: Spec): number {
  const size = sizeOf(shape);
  return isHalf(dtype) ? Math.ceil(size / 2) * 4 : size * 4;
}

/** The types that are packed two to a 32-bit word. */
export function isHalf(dtype: Dtype): dtype is "bf16" | "f16" {
  return dtype === "bf16" || dtype === "f16";
}

export function isFloat(dtype: Dtype): boolean {
  return dtype === "f32" || isHalf(dtype);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

export function formatSpec({ shape, dtype }: Spec): string {
  return `${dtype === "f32" ? "" : dtype}[${shape.join(", ")}]`;
}

// Numbers only order nodes; they never reach a result, so a counter for the process is enough.
let nextNode = 0;
let paths: readonly string[] = [];

/** Runs `body` with `name` added to the model path that nodes and errors carry. */
export function scope<T>(name: string, body: () => T): T {
  const outer = paths;
  paths = [...outer, name];
  try {
    return body();
  } finally {
    paths = outer;
  }
}

export function currentPath(): string {
  return paths.join(".");
}

/** Stands between those who apply an op and its node: may change operands and results. */
export type ApplyRule = (
  op: Op,
  inputs: readonly Tensor[],
  make: (inputs: readonly Tensor[]) => readonly Tensor[],
) => readonly Tensor[];

let rule: ApplyRule | undefined;

/** Runs `body` with all its ops applied by a rule; what the rule itself applies goes by none. */
export function applyBy<T>(own: ApplyRule | undefined, body: () => T): T {
  const outer = rule;
  rule = own;
  try {
    return body();
  } finally {
    rule = outer;
  }
}

/** Adds a node. Shapes are checked here, while tracing, so a shape error never reaches a kernel. */
export function apply(op: Op, inputs: readonly Tensor[], attrs: Attrs = {}): readonly Tensor[] {
  const own = rule, make = (inputs: readonly Tensor[]) => makeNode(op, inputs, attrs);
  return own ? applyBy(undefined, () => own(op, inputs, make)) : make(inputs);
}

function makeNode(op: Op, inputs: readonly Tensor[], attrs: Attrs): readonly Tensor[] {
  const path = currentPath();
  let specs: readonly Spec[];
  try {
    specs = op.check(inputs, attrs);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const operands = inputs.map(formatSpec).join(" ");
    throw new ShapeError(
      `${op.name}: ${error.message} (given ${operands || "nothing"})${path ? ` at ${path}` : ""}`,
    );
  }
  const outputs: Tensor[] = [];
  const node: Node = { id: nextNode++, op, inputs, attrs, outputs, path };
  specs.forEach(({ shape, dtype }, index) => outputs.push({ node, index, shape, dtype }));
  return outputs;
}

export function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ShapeError(message);
}
