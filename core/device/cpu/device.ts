/**
 * The cpu device: plans become WASM jobs for a pool of workers over one shared memory; what has no
 * WASM form runs as its plain loop.
 */

import { setImmediate } from "node:timers";
import { encodeKernels } from "../../../kernels/wasm/encode.ts";
import { bytesOf, sizeOf } from "../../graph/mod.ts";
import type { NamedSpec, Plan, Storage } from "../../plan/types.ts";
import { prepareUploads } from "../inputs.ts";
import {
  describeSpec,
  type Device,
  type Executable,
  type HostArray,
  type StateStore,
} from "../types.ts";
import { addressOf, type Blas, findBlas } from "./blas.ts";
import { buildEntries } from "./entries.ts";
import { everything, meetingsOf } from "./meetings.ts";
import {
  ALIGNMENT,
  type Allocated,
  createSharedMemory,
  type Region,
  type SharedMemory,
} from "./memory.ts";
import { gemmWith, type Pool, startPool } from "./pool.ts";
import { makeWalk, type Program } from "./program.ts";
import { type CpuLowered, cpuTarget, hasRelaxedSimd } from "./target.ts";
import { fillAt, type Placed, readAt, writeAt } from "./tensors.ts";

export interface CpuOptions {
  /** Members of the pool, the main thread among them; the machine's processors unless given. */
  readonly threads?: number;
  /** `off` never looks for one; a path opens that one. */
  readonly blas?: "auto" | "off" | (string & Record<never, never>);
  /** Off: reference loops only. */
  readonly wasm?: boolean;
}

export async function openCpu(
  { threads = navigator.hardwareConcurrency, blas: wanted = "auto", wasm = true }: CpuOptions = {},
): Promise<Device> {
  const shared = createSharedMemory(), members = Math.max(1, Math.min(threads, 64));
  const relaxed = hasRelaxedSimd();
  const blas = wanted === "off" ? undefined : findBlas(wanted === "auto" ? undefined : wanted);
  const target = cpuTarget({
    threads: members,
    relaxed,
    blas: blas !== undefined,
    wasm,
  });
  const pool = await startPool(shared.memory, members, blas);
  const device = new CpuDevice(shared, pool, blas);
  let closed = false;
  return {
    target,
    info: {
      kind: "cpu",
      name: `cpu, ${members} thread${members === 1 ? "" : "s"}${
        blas ? `, ${shortName(blas)}` : ""
      }`,
      details: {
        threads: members,
        blas: blas?.version ?? "none",
        blas_library: blas?.path ?? "none",
        relaxed_simd: relaxed,
      },
    },
    createState: (entries) => device.createState(entries),
    compile: (plan, state, options) =>
      device.compile(plan as Plan<CpuLowered>, state, options?.ring ?? 64),
    usedBytes: () => shared.usedBytes(),
    // Runs are done when they return; this lets signals, timers and workers' errors through.
    idle: turn,
    async [Symbol.asyncDispose]() {
      if (closed) return;
      closed = true;
      await pool[Symbol.asyncDispose]();
      blas?.close();
    },
  };
}

/**
 * Lets the event loop run once: signals, timers, workers' errors. A timer of 0 ms would take two.
 */
const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

interface CpuState extends StateStore {
  readonly places: ReadonlyMap<string, Placed>;
}

class CpuDevice {
  #programs = 0;

  constructor(
    readonly shared: SharedMemory,
    readonly pool: Pool,
    readonly blas: Blas | undefined,
  ) {}

  createState(entries: readonly NamedSpec[]): CpuState {
    const { shared } = this, regions: Allocated[] = [];
    const release = () => regions.splice(0).forEach((region) => shared.free(region));
    try {
      for (const entry of entries) {
        regions.push(shared.allocate(bytesOf(entry) + ALIGNMENT, `state ${entry.name}`));
      }
    } catch (error) {
      release();
      throw error;
    }
    for (const { offset, stale } of regions) new Uint8Array(shared.buffer, offset, stale).fill(0);
    const places = new Map(
      entries.map((entry, i) => [entry.name, { offset: regions[i].offset, spec: entry }]),
    );
    const bytes = regions.reduce((sum, region) => sum + region.bytes, 0);
    const placeOf = (name: string) => {
      const place = regions.length > 0 ? places.get(name) : undefined;
      if (!place) throw new Error(`the state has no ${name}, or was closed`);
      return place;
    };
    return {
      entries,
      places,
      bytes,
      write(name, values) {
        const place = placeOf(name), { spec } = place;
        if (values.length !== sizeOf(spec.shape)) {
          throw new Error(
            `state ${name} is ${describeSpec(spec)}: ${values.length} values do not fill it`,
          );
        }
        writeAt(shared.buffer, place, values);
      },
      fill: (name, give) => fillAt(shared.buffer, placeOf(name), give),
      fillBf16(name, give) {
        const { offset, spec } = placeOf(name);
        if (spec.dtype !== "bf16") throw new Error(`state ${name} is ${describeSpec(spec)}`);
        give(new Uint16Array(shared.buffer, offset, sizeOf(spec.shape)), 0);
      },
      read: (name) => Promise.resolve(readAt(shared.buffer, placeOf(name))),
      [Symbol.dispose]: release,
    };
  }

  async compile(plan: Plan<CpuLowered>, state: StateStore, ring: number): Promise<Executable> {
    const { shared } = this, regions: Region[] = [];
    const allocate = (bytes: number, purpose: string) => {
      const region = shared.allocate(bytes, purpose);
      regions.push(region);
      return region.offset;
    };
    const release = () => regions.splice(0).forEach((region) => shared.free(region));
    try {
      const { arenaBytes, uploadBytes, constantBytes } = plan.totals;
      const bases = {
        arena: allocate(arenaBytes, "intermediate tensors"),
        upload: allocate(uploadBytes, "inputs"),
        constant: allocate(constantBytes, "constants"),
      };
      const states = plan.state.map(({ name, shape, dtype }) => {
        const place = (state as CpuState).places.get(name);
        if (!place) throw new Error(`the plan needs state ${name}, which the store does not have`);
        if (place.spec.dtype !== dtype || place.spec.shape.join() !== shape.join()) {
          throw new Error(
            `state ${name} is [${place.spec.shape}], but the plan was made for [${shape}]`,
          );
        }
        return place.offset;
      });
      const addressOfStorage = (storage: Storage) =>
        storage.space === "state" ? states[storage.index] : bases[storage.space] + storage.offset;
      for (const { offset, values, ...spec } of plan.constants) {
        writeAt(
          shared.buffer,
          { offset: bases.constant + offset, spec },
          values as unknown as ArrayLike<number>,
        );
      }
      const outputs = new Ring(
        plan,
        ring,
        (storage, spec) => readAt(shared.buffer, { offset: addressOfStorage(storage), spec }),
      );
      const tasks: (() => void)[] = [];
      const built = buildEntries(plan, addressOfStorage, tasks, shared.buffer, this.pool.members);
      const argsAt = allocate(built.words.length * 4, "job arguments");
      new Int32Array(shared.buffer, argsAt, built.words.length).set(built.words);
      tasks.push(() => outputs.push());
      const program: Program = {
        id: this.#programs++,
        module: built.functions.length > 0
          ? await WebAssembly.compile(encodeKernels(built.functions))
          : undefined,
        entries: [
          ...built.entries.map((entry) =>
            entry.kind === "wasm" ? { ...entry, args: argsAt + 4 * entry.args } : entry
          ),
          { kind: "main", task: tasks.length - 1 },
        ],
        // The ring's copy is the last of a round: nobody may be ahead of it.
        meetings: meetingsOf([...built.footprints, {
          shared: false,
          step: -1,
          accesses: [everything],
        }]),
        memberBytes: Math.max(0, ...plan.steps.map(({ lowered }) => lowered.memberBytes)),
      };
      const scratch = this.pool.members * program.memberBytes > 0
        ? allocate(this.pool.members * align(program.memberBytes), "the members' scratch")
        : 0;
      const scratchOf = (member: number) => scratch + member * align(program.memberBytes);
      await this.pool.load(program, scratchOf);
      const gemm = this.blas && gemmWith(this.blas, addressOf(shared.buffer));
      const walk = makeWalk({
        program,
        memory: shared.memory,
        scratch: scratchOf(0),
        gemm,
        main: (task) => tasks[task](),
      });
      let closed = false;
      return {
        plan,
        run: (inputs = {}, times = 1) => {
          if (closed) throw new Error("a plan was run after it was closed");
          prepareUploads(plan, inputs).forEach((values, i) => {
            writeAt(shared.buffer, {
              offset: bases.upload + plan.uploads[i].offset,
              spec: plan.uploads[i],
            }, values);
          });
          this.pool.run(program, walk, times);
        },
        outputs: () => outputs.take(),
        [Symbol.dispose]: () => {
          if (closed) return;
          closed = true;
          this.pool.forget(program.id);
          release();
        },
      };
    } catch (error) {
      release();
      throw error;
    }
  }
}

const align = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Outputs of runs that nobody has read yet. */
class Ring {
  #runs: Record<string, HostArray>[] = [];
  #dropped = 0;

  constructor(
    readonly plan: Plan,
    readonly length: number,
    readonly read: (storage: Storage, spec: NamedSpec) => HostArray,
  ) {}

  push(): void {
    if (this.plan.outputs.length === 0) return;
    this.#runs.push(
      Object.fromEntries(
        this.plan.outputs.map((output) => [output.name, this.read(output.storage, output)]),
      ),
    );
    if (this.#runs.length > this.length) {
      this.#runs.shift();
      this.#dropped++;
    }
  }

  take(): Promise<Record<string, HostArray>[]> {
    const dropped = this.#dropped;
    if (dropped > 0) {
      this.#runs = [];
      this.#dropped = 0;
      return Promise.reject(
        new Error(
          `outputs of ${dropped} runs were overwritten before they were read: read at least every ${this.length} runs`,
        ),
      );
    }
    const runs = this.#runs;
    this.#runs = [];
    return turn().then(() => runs);
  }
}

/** Name and version; how it was built is in the device's details. */
export function shortName({ version }: Pick<Blas, "version">): string {
  return version.match(/^\w+ \d[\w.]*/)?.[0] ?? version.replace(/^.*[/\\]/, "");
}
