/** The published models' small siblings as they stand in `configs/`, with weights by chance, ready to decode. */

import { type Device, openDevice } from "../../../core/device/mod.ts";
import { Decoder } from "../../../core/generate/mod.ts";
import { type Layout, traceDecode } from "../../../core/generate/programs.ts";
import { loadConfig } from "../../../core/io/config.ts";
import {
  buildModel,
  completeModel,
  initialValues,
  type Model,
  namedParams,
  scalarValues,
} from "../../../core/model/mod.ts";
import { evenClock } from "../../../core/optim/mod.ts";
import { planGraph } from "../../../core/plan/mod.ts";
import { pretrainConfig } from "../../../core/train/mod.ts";
import { root } from "../../support.ts";

export const tinyNames = ["polyglu-tiny", "veronica-tiny", "neollm-tiny", "recycled-core-tiny"];

export interface TinyDecoder extends AsyncDisposable {
  readonly model: Model;
  readonly decoder: Decoder;
  readonly device: Device;
  /** How often programs of prompts ran; steps are not among them. */
  readonly prefills: () => number;
}

/** On the cpu device unless given. No weights are alike, so that what is wrong anywhere shows. */
export async function openTiny(
  name: string,
  { vocab = 50, device: kind = "cpu", ...room }:
    & Partial<Layout>
    & { capacity: number; vocab?: number; device?: "cpu" | "webgpu" },
): Promise<TinyDecoder> {
  const { model: config } = await loadConfig(pretrainConfig, `${root}configs/${name}.yaml`);
  const sizes = { vocab_size: vocab, max_position_embeddings: room.capacity };
  const model = buildModel(completeModel({ ...config, ...sizes }, sizes));
  const layout: Layout = { batch: 1, weights: "f32", ...room };
  await using stack = new AsyncDisposableStack();
  const device = stack.use(await openDevice({ device: kind, blas: "off", threads: 1 }));
  let prefills = 0;
  const counting: Device = Object.assign(Object.create(device), {
    async compile(...args: Parameters<Device["compile"]>) {
      const made = await device.compile(...args), [plan] = args;
      if (plan.outputs.length > 0) return made;
      const run: typeof made.run = (...inputs) => (prefills++, made.run(...inputs));
      return { plan, run, outputs: made.outputs, [Symbol.dispose]: () => made[Symbol.dispose]() };
    },
  });
  const state = stack.use(
    device.createState(planGraph(traceDecode(model, layout), device.target).state),
  );
  namedParams(model.params).forEach((param, i) => {
    const first = initialValues(param, i);
    const isAlike = first.every((x) => x === first[0]);
    // gains and biases near what they begin with, all else about 1 / √hidden_size
    const size = Math.sqrt(first.reduce((sum, x) => sum + x * x, 0) / first.length);
    const value = isAlike
      ? (x: number, j: number) => x + Math.sin(1.7 * j + i) / 8
      : (x: number) => x * 0.1 / size;
    state.write(`params.${param.path}`, first.map(value));
  });
  const decoder = stack.use(await Decoder.over(state, model, counting, layout));
  decoder.point = { scalars: scalarValues(model, evenClock(1), 0), seed: 0, step: 0 };
  const opened = stack.move();
  return {
    model,
    decoder,
    device,
    prefills: () => prefills,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** Ids by chance, the same for the same seed. */
export function someIds(count: number, seed: number, vocab = 50): number[] {
  let x = 2 * seed + 1;
  return Array.from({ length: count }, () => (x = (x * 48271) % 2147483647) % vocab);
}
