/** Rotary embedding in WASM: a unit is a token, whose angles serve all its heads. */

import { bytesPerElement, type CpuLowering, input, output } from "../lowering.ts";
import type { OpContext } from "../../core/graph/tensor.ts";
import { loadDense, overRow, sizeShift, storedAs, storeDense, storePart } from "./elements.ts";
import { f32x4, type I32, i32, type Local, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import type { Stored } from "./panels.ts";
import { type VectorMath, vectorMath } from "./scalar.ts";

export function ropeWasm({ inputs, outputs, attrs }: OpContext): CpuLowering | undefined {
  const [x, , cosines, sines] = inputs, [batch, time, heads, width] = x.shape;
  const type = storedAs(x.dtype), made = storedAs(outputs[0].dtype);
  const layout = attrs.layout as "half" | "interleaved";
  if (!type || !made || cosines.dtype !== "f32" || sines.dtype !== "f32") return undefined;
  const rotary = attrs.rotary_dim as number;
  return {
    jobs: [namedJob({
      key: `rope ${layout} ${type} ${made}`,
      args: {
        x: input(0),
        positions: input(1),
        cosines: input(2),
        sines: input(3),
        out: output(0),
        heads,
        width,
        half: rotary / 2,
        last: cosines.shape[0] - 1,
        direction: { f32: attrs.direction as number },
      },
      units: batch * time,
      work: heads * width,
      build(f, { x, positions, cosines, sines, out, heads, width, half, last, direction }) {
        const s = vectorMath(f, false), token = f.i32(), head = f.i32();
        const angles = { cosines: f.i32(), sines: f.i32(), direction };
        const from = f.i32(), to = f.i32();
        const bytes = bytesPerElement(type), outBytes = bytesPerElement(made);
        const types = { from: type, to: made }, turn = layout === "half" ? turnHalves : turnPairs;
        f.forRange(token, f.begin, f.end, 1, () => {
          const position = f.i32(i32.load(i32.add(positions, i32.shl(token, 2))));
          const row = i32.mul(i32.minS(i32.maxS(position, 0), last), i32.shl(half, 2));
          const angle = f.i32(row);
          f.set(angles.cosines, i32.add(cosines, angle));
          f.set(angles.sines, i32.add(sines, angle));
          const first = f.i32(i32.mul(i32.mul(token, heads), width));
          f.set(from, i32.add(x, i32.mul(first, bytes)));
          f.set(to, i32.add(out, i32.mul(first, outBytes)));
          f.forRange(head, 0, heads, 1, () => {
            turn(s, types, from, to, half, angles);
            copyRest(s, types, from, to, i32.shl(half, 1), width);
            f.advance(from, i32.mul(width, bytes));
            f.advance(to, i32.mul(width, outBytes));
          });
        });
      },
    })],
  };
}

interface Angles {
  readonly cosines: Local<"i32">;
  readonly sines: Local<"i32">;
  readonly direction: Local<"f32">;
}

interface Types {
  readonly from: Stored;
  readonly to: Stored;
}

const scaled = (type: Stored, at: I32) => type === "bf16" ? i32.shrU(at, 1) : at;

/** Channel i turns with i + half. */
function turnHalves(
  s: VectorMath,
  types: Types,
  from: Local<"i32">,
  to: Local<"i32">,
  half: Local<"i32">,
  { cosines, sines, direction }: Angles,
): void {
  const { f } = s, at = f.i32(), rest = f.i32(), place = f.i32(), later = f.i32();
  const [a, b, c, turned] = f.vectors(4), low = f.v128(), high = f.v128();
  overRow(f, half, at, rest, (part) => {
    const near = i32.add(from, scaled(types.from, at));
    f.set(a, loadDense(types.from, near));
    f.set(b, loadDense(types.from, i32.add(near, i32.shl(half, sizeShift(types.from)))));
    f.set(c, v128.load(i32.add(cosines, at)));
    f.set(turned, f32x4.mul(v128.load(i32.add(sines, at)), f32x4.splat(direction)));
    f.set(low, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, turned)));
    f.set(high, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, turned)));
    f.set(place, i32.add(to, scaled(types.to, at)));
    f.set(later, i32.add(place, i32.shl(half, sizeShift(types.to))));
    if (part) {
      storePart(s, types.to, place, low, rest);
      storePart(s, types.to, later, high, rest);
    } else {
      storeDense(s, types.to, place, low);
      storeDense(s, types.to, later, high);
    }
  });
}

/** Channel 2i turns with 2i + 1: two pairs a vector. */
function turnPairs(
  s: VectorMath,
  types: Types,
  from: Local<"i32">,
  to: Local<"i32">,
  half: Local<"i32">,
  { cosines, sines, direction }: Angles,
): void {
  const { f } = s, at = f.i32(), place = f.i32();
  const [x, c, turned, both] = f.vectors(4);
  const pairs = i32.shrU(half, 1), signs = f.v128(), two = f.i32();
  f.set(signs, f32x4.mul(f.constants([-1, 1, -1, 1]), f32x4.splat(direction)));
  const compute = () => {
    const angle = i32.shrU(at, 1); // a pair's 8 bytes share 4 bytes of table
    f.set(x, loadDense(types.from, i32.add(from, scaled(types.from, at))));
    f.set(c, v128.load64Zero(i32.add(cosines, angle)));
    f.set(turned, v128.load64Zero(i32.add(sines, angle)));
    const twice = (v: Local<"v128">) => v128.shuffle32(v, v, [0, 0, 1, 1]);
    f.set(
      both,
      f32x4.add(
        f32x4.mul(x, twice(c)),
        f32x4.mul(f32x4.mul(v128.shuffle32(x, x, [1, 0, 3, 2]), twice(turned)), signs),
      ),
    );
    f.set(place, i32.add(to, scaled(types.to, at)));
  };
  f.forRange(at, 0, i32.shl(pairs, 4), 16, () => {
    compute();
    storeDense(s, types.to, place, both);
  });
  f.if(i32.and(half, 1), () => {
    f.set(at, i32.shl(pairs, 4));
    compute();
    f.set(two, 2);
    storePart(s, types.to, place, both, two);
  });
}

/** Channels from `first` on pass as they are. */
function copyRest(
  s: VectorMath,
  types: Types,
  from: Local<"i32">,
  to: Local<"i32">,
  first: I32,
  width: Local<"i32">,
): void {
  const { f } = s, at = f.i32(), rest = f.i32(), start = f.i32(first), place = f.i32();
  const source = f.i32(i32.add(from, i32.shl(start, sizeShift(types.from)))), value = f.v128();
  overRow(f, i32.sub(width, start), at, rest, (part) => {
    f.set(value, loadDense(types.from, i32.add(source, scaled(types.from, at))));
    f.set(place, i32.add(i32.add(to, i32.shl(start, sizeShift(types.to))), scaled(types.to, at)));
    if (part) storePart(s, types.to, place, value, rest);
    else storeDense(s, types.to, place, value);
  });
}
