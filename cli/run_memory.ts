/**
 * How much memory a run may use: what `--memory` says, what the machine has, or what a GPU gives when asked.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";
import type { Device } from "../core/device/mod.ts";
import { countTargets, type Packing } from "../core/data/batches.ts";
import { UserError } from "../core/io/errors.ts";
import type { Target } from "../core/plan/mod.ts";
import type { BatchSizes, GivenSizes, Memory, OpenData, RunConfig } from "../core/train/mod.ts";
import { parseBytes } from "./options.ts";

/** `--memory`: what the device has, or what a run may use of it. */
export function memoryOption() {
  return new Option("--memory <size>", "the device's memory, such as 24GB or 22.5GiB")
    .argParser(parseBytes);
}

/** Memory that is given, else the machine's for the cpu device. Of a GPU nothing is known. */
export function memoryOf(target: Target, given: number | undefined): Memory | undefined {
  if (target.kind === "webgpu") return given === undefined ? undefined : ofOption(given);
  return withinSlab(
    target,
    given === undefined
      ? { bytes: Deno.systemMemoryInfo().total, source: "the machine's" }
      : ofOption(given),
  );
}

const ofOption = (bytes: number): Memory => ({ bytes, source: "as --memory says" });

/** The cpu device's memory has 32-bit addresses. */
function withinSlab({ slabBytes }: Target, memory: Memory): Memory {
  return memory.bytes <= slabBytes
    ? memory
    : { bytes: slabBytes, source: "the most that the cpu device can have" };
}

/**
 * Memory for sizes that are `auto`: what is given, else what is free. A GPU does not say how much it has: it is
 * asked for more and more, up to half of what the machine has free.
 */
export async function freeMemory(
  target: Target,
  device: Device | undefined,
  given: number | undefined,
): Promise<Memory> {
  if (given !== undefined) return memoryOf(target, given)!;
  const { describeMachine, roomOf } = await import("../core/inspect/mod.ts");
  const machine = describeMachine();
  if (target.kind === "cpu") {
    // the program itself and whatever else grows take some, too
    const bytes = Math.floor(0.9 * machine.availableBytes);
    return withinSlab(target, { bytes, source: "nine tenths of what is free now" });
  }
  if (!device) {
    throw new UserError("a batch that fits is asked for, but no device is here to say what does", {
      hint: "say how much memory it has: --memory 24GB",
    });
  }
  const { bytes } = await roomOf(device, machine);
  return { bytes: Math.floor(0.9 * bytes), source: "nine tenths of what the GPU gave when asked" };
}

/** The option's value. */
export interface RunMemory {
  readonly memory?: number | undefined;
}

/** What is known of the data before they are read; all but the vocabulary only where they are there. */
export interface DataFacts {
  readonly vocab_size: number;
  /** Targets of an epoch of each source, in order. */
  readonly epochTargets?: readonly number[];
  /** Tokens that each source holds out. */
  readonly heldOut?: readonly number[];
}

export function factsOf({ sources, vocabSize }: OpenData, packing: Packing): DataFacts {
  const epochTargets = sources.map(({ shards }) => countTargets(shards.splits.train, packing));
  const heldOut = sources.map(({ shards }) => shards.splits.val.tokens);
  return { vocab_size: vocabSize, epochTargets, heldOut };
}

/** Whom sizes must fit. */
export interface Surroundings<R extends RunConfig> extends RunMemory {
  readonly target: Target;
  readonly device: Device | undefined;
  readonly data: DataFacts;
  /** The config with sizes filled in, those that it gives unless others are given. */
  resolve(sizes?: BatchSizes): R;
}

/** A config with nothing left open, and what sizes that were `auto` were fitted to. */
export interface Resolved<R extends RunConfig = RunConfig> {
  readonly config: R;
  readonly memory?: Memory;
}

/** Fills in what is left open: sizes that are `auto` fill the memory that there is. */
export async function resolveWithin<R extends RunConfig>(
  given: GivenSizes & { readonly sequence_length: number },
  { target, device, data: { epochTargets }, resolve, memory: size }: Surroundings<R>,
): Promise<Resolved<R>> {
  const { anyRows, fitSizes, hasAutoSizes, roomOf } = await import("../core/train/mod.ts");
  if (!hasAutoSizes(given)) return { config: resolve() };
  const memory = await freeMemory(target, device, size), room = roomOf(target, memory.bytes);
  const mostRows = epochTargets === undefined
    ? anyRows
    : Math.ceil(epochTargets.reduce((a, b) => a + b, 0) / given.sequence_length);
  return { config: fitSizes(given, { resolve, target, room, mostRows }), memory };
}

/** Refuses a run that takes more than `--memory` gives it. */
export async function requireWithin(
  config: RunConfig,
  target: Target,
  given: number | undefined,
): Promise<void> {
  if (given === undefined) return;
  const { dryRun, roomOf, tooLarge } = await import("../core/train/mod.ts");
  const { totalBytes } = dryRun(config, target), memory = memoryOf(target, given)!;
  if (totalBytes > roomOf(target, memory.bytes)) {
    throw tooLarge(totalBytes, memory, config, target);
  }
}
