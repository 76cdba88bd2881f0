/** The way of a token through the layers: the same for whole rows and for new tokens. */

import { add, meanLast, mul, rsqrt, sqrt, square, sub } from "../../kernels/mod.ts";
import { reveal, scope, type Tensor } from "../graph/mod.ts";
import type { Applied, Streams, TensorTree } from "../nn/mod.ts";
import type { Parts, Pass } from "./bind.ts";
import type { ModelTree, Told } from "./model.ts";

type LayerParams = ModelTree<TensorTree>["layers"][number];

/** Runs one half of a layer on its input, in pass number `at`. */
export type StepRunner = (
  half: "mixer" | "mlp",
  pass: Pass,
  params: LayerParams,
  x: Tensor,
  streams: Streams,
  at: number,
) => Applied;

/** How layers are passed: whole rows or new tokens, kept or rebuilt. */
interface Passage {
  around(run: (streams: Streams) => Passed): (streams: Streams) => Passed;
  readonly run: StepRunner;
}

/** What leaves a layer. */
interface Passed {
  readonly streams: Streams;
  readonly told: readonly Applied[];
}

/** From the input's result to the stream behind the last layer, and what the parts told on the way. */
export function passLayers(
  first: Applied,
  { layers, passes }: Parts,
  params: ModelTree<TensorTree>,
  { around, run }: Passage,
): { x: Tensor } & Told {
  let streams: Streams = { ...first.streams, x0: first.out, x: first.out };
  const told: Applied[] = [first], outputs: Tensor[] = [];
  passes.forEach((pass, at) => {
    const p = params.layers[pass.layer];
    streams = { ...streams, x: enter(pass, params, streams.x, outputs) };
    const passed = around((streams) =>
      scope(`layers.${pass.layer}`, () => {
        const parts: Applied[] = [];
        const half = (name: "mixer" | "mlp") => (x: Tensor) => {
          const applied = scope(name, () => run(name, pass, p, x, streams, at));
          parts.push(applied);
          return applied.out;
        };
        const left = layers[pass.layer].residual.run(p.residual, streams, {
          mixer: half("mixer"),
          mlp: half("mlp"),
        });
        const published = parts.map(({ streams }) => streams ?? {});
        return { streams: Object.assign({}, left, ...published) as Streams, told: parts };
      })
    )(streams);
    told.push(...passed.told);
    const before = streams.x, after = passed.streams.x;
    scope(
      `layers.${pass.layer}`,
      () => reveal("stream", { kind: "change", over: "tokens" }, () => changeOf(before, after)),
    );
    streams = passed.streams;
    outputs.push(streams.x);
  });
  return { x: streams.x, aux: meanOf(told, "aux"), metrics: meanOf(told, "metrics") };
}

const factor = { kind: "factor", over: "part" } as const;

/** How much a pass changes the residual stream: √(mean (y − x)²) / √(mean x²) of each token. */
function changeOf(x: Tensor, y: Tensor): Tensor {
  return mul(sqrt(meanLast(square(sub(y, x)))), rsqrt(meanLast(square(x))));
}

/** The residual stream as a pass takes it up. */
function enter(
  { layer, modulation, skips }: Pass,
  params: ModelTree<TensorTree>,
  x: Tensor,
  outputs: readonly Tensor[],
): Tensor {
  for (const { from, weights } of skips) {
    const { weight } = params.skips[weights] as { weight: Tensor };
    x = scope(`skips.${weights}`, () => {
      reveal("weight", factor, () => weight);
      return add(x, mul(weight, outputs[from]));
    });
  }
  if (modulation === undefined) return x;
  const given = params.modulations[modulation] as { scale: Tensor; shift: Tensor };
  return scope(`modulations.${modulation} before layer ${layer}`, () => modulated(x, given));
}

/** What stands before a pass of its own: x · scale + shift, a channel each. */
export function modulated(x: Tensor, { scale, shift }: { scale: Tensor; shift: Tensor }): Tensor {
  reveal("scale", factor, () => scale);
  reveal("shift", factor, () => shift);
  return add(mul(x, scale), shift);
}

/**
 * What was told under one name, averaged over those who told it. Where they told different numbers of numbers, those unlike
 * the first go by `name.number`.
 */
function meanOf(told: readonly Applied[], what: "aux" | "metrics"): Record<string, Tensor> {
  const byName = new Map<string, Tensor[]>();
  for (const applied of told) {
    for (const [called, x] of Object.entries(applied[what] ?? {})) {
      const width = x.shape[2], first = byName.get(called)?.[0];
      const name = first && first.shape[2] !== width ? `${called}.${width}` : called;
      byName.set(name, [...byName.get(name) ?? [], x]);
    }
  }
  return Object.fromEntries(
    [...byName].map(([name, all]) => [name, mul(all.reduce(add), 1 / all.length)]),
  );
}
