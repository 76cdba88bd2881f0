/** How much memory a device really gives. */

import { type Device, OutOfMemoryError, type StateStore } from "../device/mod.ts";
import { type Graph, placeholder } from "../graph/mod.ts";
import { planGraph } from "../plan/mod.ts";
import { fill } from "../../kernels/mod.ts";
import type { Machine } from "./machine.ts";

export interface Room {
  readonly bytes: number;
  /** Whether that is all: the device refused more. */
  readonly refused: boolean;
}

/**
 * The cpu device reserves its memory whole; a software adapter shares the machine's. A GPU does not say how
 * much it has, and some drivers refuse long before that, so it is asked for more and more, up to half of what
 * the machine has free: an integrated GPU takes it from there.
 */
export async function roomOf(device: Device, machine: Machine): Promise<Room> {
  if (device.target.kind === "cpu") {
    return { bytes: Math.min(device.target.slabBytes, machine.availableBytes), refused: true };
  }
  if (device.info.details.software === true) {
    return { bytes: machine.availableBytes, refused: false };
  }
  return await takeMore(device, Math.floor(machine.availableBytes / 2));
}

const step = 512 * 2 ** 20;

/** Takes and fills memory until the device refuses or `most` bytes are taken; gives it all back. */
export async function takeMore(device: Device, most: number): Promise<Room> {
  const bytes = Math.min(step, device.target.maxTensorBytes);
  const taken: StateStore[] = [];
  let filled = 0;
  try {
    while (filled + bytes <= most) {
      const plan = planGraph(filling(bytes / 4), device.target);
      const store = device.createState(plan.state);
      taken.push(store);
      using executable = await device.compile(plan, store);
      executable.run(); // memory that is never touched may be promised twice
      await device.idle();
      filled += bytes;
    }
    return { bytes: filled, refused: false };
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return { bytes: filled, refused: true };
  } finally {
    for (const store of taken) store[Symbol.dispose]();
  }
}

/** State that is set to ones. */
function filling(count: number): Graph {
  const name = "room", input = placeholder({ shape: [count], dtype: "f32" }, name, "state");
  return {
    inputs: [{ name, kind: "state", tensor: input }],
    outputs: [],
    updates: [{ name, input, value: fill([count], 1) }],
  };
}
