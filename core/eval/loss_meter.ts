/** Each target's loss, by a model whose weights are in a file. */

import type { Batch } from "../data/batches.ts";
import type { Device, HostArray } from "../device/types.ts";
import type { Tensors } from "../io/tensors.ts";
import { type Model, namedParams, type RunPoint } from "../model/mod.ts";
import { planGraph } from "../plan/mod.ts";
import { traceLosses } from "../train/programs.ts";
import { rowInputs, type RowShape } from "../train/rows.ts";
import { fillState } from "../train/trainer.ts";
import type { LossMeter, Scored } from "./bits_per_byte.ts";

/** Close it with `using`; the device stays the caller's. `point`: where the run stands whose weights they are. */
export async function openLossMeter(
  { model, weights, point }: {
    readonly model: Model;
    readonly weights: Tensors;
    readonly point: RunPoint;
  },
  device: Device,
  shape: RowShape,
): Promise<LossMeter & Disposable> {
  const plan = planGraph(traceLosses(model, shape), device.target);
  using stack = new DisposableStack();
  const state = stack.use(device.createState(plan.state));
  const params = namedParams(model.params).map(({ path, shape }) => ({ name: path, shape }));
  fillState(state, weights, "params.", params);
  const executable = stack.use(await device.compile(plan, state, { ring: 2 }));
  const owned = stack.move();
  return {
    async *score(batches) {
      let pending: { batch: Batch; outputs: ReturnType<typeof executable.outputs> } | undefined;
      for (const batch of batches) {
        executable.run(rowInputs(model, batch, { shape, point, use: "measuring" }));
        const next = { batch, outputs: executable.outputs() };
        if (pending) yield scored(pending.batch, await pending.outputs);
        pending = next;
      }
      if (pending) yield scored(pending.batch, await pending.outputs);
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function scored(batch: Batch, [{ losses }]: Readonly<Record<string, HostArray>>[]): Scored {
  return { batch, losses };
}
