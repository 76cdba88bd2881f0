/**
 * RMSNorm and LayerNorm as fused programs, for both devices: a row's sums are reductions; the gains' gradients are sums over
 * rows, which each device takes in its own way.
 */

import { type OpContext, sizeOf } from "../core/graph/tensor.ts";
import { type ProgramWriter, programWriter } from "./program_writer.ts";

/** A norm, or its gradient, written down. */
export interface NormProgram {
  readonly writer: ProgramWriter;
  /** What goes to output 0, element by element. */
  readonly element: number;
  /** What is summed over rows for outputs 1, 2, …, element by element. */
  readonly columns: readonly number[];
  /** What those need once a row, where they are made from the inputs again: see the kernels for WebGPU. */
  readonly rows: readonly number[];
}

export type WriteNorm = (node: OpContext) => NormProgram;

function open({ inputs: [{ shape }] }: OpContext) {
  const width = shape.at(-1)!, writer = programWriter([sizeOf(shape) / width, width]);
  return {
    writer,
    dense: () => writer.read([width, 1]),
    perChannel: () => writer.read([0, 1]),
    /** 1 / √(x + eps) */
    inverseRoot: (x: number, eps: unknown) =>
      writer.call("rsqrt", writer.call("add", x, writer.constant(eps as number))),
  };
}

/** (x[, gain]) */
export const writeRmsNorm: WriteNorm = (node) => {
  const { writer: p, dense, perChannel, inverseRoot } = open(node), x = dense();
  const inverse = inverseRoot(p.mean(p.call("square", x)), node.attrs.eps);
  const unit = p.call("mul", x, inverse);
  const element = node.inputs.length > 1 ? p.call("mul", unit, perChannel()) : unit;
  return { writer: p, element, columns: [], rows: [] };
};

/** (x, dy[, gain]); rows: the inverse root. */
export const writeRmsNormGrad: WriteNorm = (node) => {
  const { writer: p, dense, perChannel, inverseRoot } = open(node), x = dense(), dy = dense();
  const gained = node.inputs.length > 2, slope = gained ? p.call("mul", dy, perChannel()) : dy;
  const inverse = inverseRoot(p.mean(p.call("square", x)), node.attrs.eps);
  const cube = p.call("mul", inverse, p.call("square", inverse));
  const pull = p.call("mul", p.mean(p.call("mul", x, slope)), cube);
  const element = p.call("sub", p.call("mul", slope, inverse), p.call("mul", x, pull));
  const columns = gained ? [p.call("mul", p.call("mul", dy, x), inverse)] : [];
  return { writer: p, element, columns, rows: gained ? [inverse] : [] };
};

/** Mean, 1/√(variance + eps), and (x − mean) times the latter. */
function standardize({ writer: p, inverseRoot }: ReturnType<typeof open>, x: number, eps: unknown) {
  const mean = p.mean(x), centred = p.call("sub", x, mean);
  const inverse = inverseRoot(p.mean(p.call("square", centred)), eps);
  return { mean, inverse, unit: p.call("mul", centred, inverse) };
}

/** (x[, gain[, bias]]) */
export const writeLayerNorm: WriteNorm = (node) => {
  const opened = open(node), { writer: p, dense, perChannel } = opened;
  const { unit } = standardize(opened, dense(), node.attrs.eps);
  const scaled = node.inputs.length > 1 ? p.call("mul", unit, perChannel()) : unit;
  const element = node.inputs.length > 2 ? p.call("add", scaled, perChannel()) : scaled;
  return { writer: p, element, columns: [], rows: [] };
};

/** (x, dy[, gain]); rows: mean and inverse root. */
export const writeLayerNormGrad: WriteNorm = (node) => {
  const opened = open(node), { writer: p, dense, perChannel } = opened, x = dense(), dy = dense();
  const slope = node.inputs.length > 2 ? p.call("mul", dy, perChannel()) : dy;
  const { mean, inverse, unit } = standardize(opened, x, node.attrs.eps);
  const rest = p.call("sub", slope, p.mean(slope));
  const pull = p.call("mul", unit, p.mean(p.call("mul", slope, unit)));
  const element = p.call("mul", inverse, p.call("sub", rest, pull));
  return { writer: p, element, columns: [p.call("mul", dy, unit), dy], rows: [mean, inverse] };
};
