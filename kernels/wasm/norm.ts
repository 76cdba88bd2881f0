/**
 * RMSNorm and LayerNorm as fused programs: the rows' sums are reductions, the gains' gradients sums
 * over rows.
 */

import { type OpContext, sizeOf, type Spec } from "../../core/graph/tensor.ts";
import { type CpuLowering, type CpuTarget, input, output } from "../lowering.ts";
import { withColumns } from "./columns.ts";
import { programWasm } from "./fused.ts";
import { type ProgramWriter, programWriter } from "./writer.ts";

const dense = (width: number) => [width, 1], perColumn = [0, 1];

function open([x]: readonly Spec[]): { p: ProgramWriter; width: number } | undefined {
  const width = x.shape.at(-1)!, size = sizeOf(x.shape);
  return size === 0 ? undefined : { p: programWriter([size / width, width]), width };
}

/** 1 / √(sum / width + eps) */
function inverseRoot(p: ProgramWriter, sum: number, width: number, eps: number): number {
  return p.call("rsqrt", p.call("add", p.call("mul", sum, p.constant(1 / width)), p.constant(eps)));
}

export function rmsNormWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs, attrs } = node, opened = open(inputs);
  if (!opened) return undefined;
  const { p, width } = opened, x = p.read(dense(width));
  const gain = inputs[1] && p.read(perColumn);
  const inverse = inverseRoot(p, p.sum(p.call("square", x)), width, attrs.eps as number);
  const unit = p.call("mul", x, inverse);
  const out = gain === undefined ? unit : p.call("mul", unit, gain);
  return programWasm(p.finish([out], outputs[0]), node, target);
}

export function rmsNormGradWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs, attrs } = node, opened = open(inputs);
  if (!opened) return undefined;
  const { p, width } = opened, x = p.read(dense(width)), dy = p.read(dense(width));
  const gain = inputs[2] && p.read(perColumn);
  const squares = p.sum(p.call("square", x));
  const pulled = gain === undefined ? dy : p.call("mul", dy, gain);
  const dot = p.sum(p.call("mul", x, pulled));
  const inverse = inverseRoot(p, squares, width, attrs.eps as number);
  const cubed = p.call("mul", inverse, p.call("square", inverse));
  const pull = p.call("mul", p.call("mul", dot, cubed), p.constant(1 / width));
  const dx = p.call("sub", p.call("mul", pulled, inverse), p.call("mul", x, pull));
  const columns = gain === undefined ? [] : [p.call("mul", p.call("mul", dy, x), inverse)];
  const program = p.finish([dx], outputs[0], columns);
  return withColumns(
    program,
    inputs.map((_, n) => input(n)),
    [output(0)],
    columns.map(() => output(1)),
    inputs,
    target,
  );
}

/** Mean and 1/√(variance + eps), and (x − mean) times the latter. */
function standardized(p: ProgramWriter, x: number, width: number, eps: number) {
  const mean = p.call("mul", p.sum(x), p.constant(1 / width)), centred = p.call("sub", x, mean);
  const inverse = inverseRoot(p, p.sum(p.call("square", centred)), width, eps);
  return { inverse, unit: p.call("mul", centred, inverse) };
}

export function layerNormWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs, attrs } = node, opened = open(inputs);
  if (!opened) return undefined;
  const { p, width } = opened, x = p.read(dense(width));
  const affine = inputs.slice(1).map(() => p.read(perColumn));
  const { unit } = standardized(p, x, width, attrs.eps as number);
  const [gain, bias] = affine;
  const scaled = gain === undefined ? unit : p.call("mul", unit, gain);
  const out = bias === undefined ? scaled : p.call("add", scaled, bias);
  return programWasm(p.finish([out], outputs[0]), node, target);
}

export function layerNormGradWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs, attrs } = node, opened = open(inputs);
  if (!opened) return undefined;
  const { p, width } = opened, x = p.read(dense(width)), dy = p.read(dense(width));
  const gain = inputs[2] && p.read(perColumn);
  const { inverse, unit } = standardized(p, x, width, attrs.eps as number);
  const pulled = gain === undefined ? dy : p.call("mul", dy, gain), part = p.constant(1 / width);
  const mean = p.call("mul", p.sum(pulled), part);
  const slope = p.call("mul", p.sum(p.call("mul", pulled, unit)), part);
  const rest = p.call("sub", p.call("sub", pulled, mean), p.call("mul", unit, slope));
  const dx = p.call("mul", rest, inverse);
  const program = p.finish([dx], outputs[0], [p.call("mul", dy, unit), dy]);
  return withColumns(
    program,
    inputs.map((_, n) => input(n)),
    [output(0)],
    [output(1), output(2)],
    inputs,
    target,
  );
}
