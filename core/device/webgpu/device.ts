/** The WebGPU device. */

import type { NamedSpec, Plan } from "../../plan/types.ts";
import {
  type Device,
  DeviceError,
  type DeviceInfo,
  OutOfMemoryError,
  type StateStore,
} from "../types.ts";
import { messageOf, openAdapter, type OpenedAdapter } from "./adapter.ts";
import { GpuExecutable } from "./executable.ts";
import { formatBytes, GpuMemory } from "./memory.ts";
import { Pace } from "./pace.ts";
import { PipelineCache } from "./pipelines.ts";
import { Staging } from "./readback.ts";
import { GpuStateStore } from "./state.ts";
import { type GpuLowering, type Variants, type WebgpuTarget, webgpuTarget } from "./target.ts";

/** A range to read. */
export interface Range {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

export class WebgpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly target: WebgpuTarget;
  readonly gpu: GPUDevice;
  readonly memory: GpuMemory;
  readonly pipelines: PipelineCache;
  readonly pace: Pace;
  /** llvmpipe and its like: correct, and slower than the cpu device. */
  readonly software: boolean;
  readonly #staging: Staging;
  #broken: Error | undefined;
  #closed = false;
  #unsubmittedBytes = 0;

  constructor({ device, info, limits, software }: OpenedAdapter, variants?: Variants) {
    this.gpu = device;
    this.info = info;
    this.software = software;
    this.target = webgpuTarget(limits, variants);
    this.memory = new GpuMemory(device, limits.maxBufferBytes, software);
    this.pipelines = new PipelineCache(device);
    this.pace = new Pace(device.queue, !software);
    this.#staging = new Staging(this.memory);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#broken ??= this.#explain((event as GPUUncapturedErrorEvent).error);
    });
    device.lost.then(({ message, reason }) => {
      if (this.#closed) return;
      this.#broken ??= new DeviceError(
        `the GPU was lost (${reason || "unknown reason"}: ${
          message || "no word from the driver"
        }); ` +
          "what was computed since the last checkpoint is gone. If it happens again, try a smaller micro-batch or another DENO_WEBGPU_BACKEND",
      );
    });
  }

  createState(entries: readonly NamedSpec[]): StateStore {
    this.check();
    return new GpuStateStore(this, entries);
  }

  async compile(
    plan: Plan,
    state: StateStore,
    { ring = 64 }: { ring?: number } = {},
  ): Promise<GpuExecutable> {
    this.check();
    if (!(state instanceof GpuStateStore)) throw new Error("the state lives on another device");
    await this.memory.settle(); // the state's buffers
    return await GpuExecutable.build(this, plan as Plan<GpuLowering>, { state, ring });
  }

  usedBytes(): number {
    return this.memory.used;
  }

  async idle(): Promise<void> {
    this.check();
    const asked = performance.now();
    await this.gpu.queue.onSubmittedWorkDone();
    this.pace.drained(asked);
    await this.pace.settle();
    this.check();
  }

  /** Throws what went wrong, if something did: nothing computed after that is to be trusted. */
  check(): void {
    if (this.#broken) throw this.#broken;
    if (this.#closed) throw new DeviceError("the device was closed");
  }

  submit(encoder: GPUCommandEncoder, work: number): void {
    this.gpu.queue.submit([encoder.finish()]);
    this.#unsubmittedBytes = 0;
    this.pace.submitted(work);
  }

  /** Counts bytes handed to the queue without a submit, and submits before they pile up. */
  wrote(bytes: number): void {
    this.#unsubmittedBytes += bytes;
    if (this.#unsubmittedBytes < 64 * 2 ** 20) return;
    this.gpu.queue.submit([]);
    this.#unsubmittedBytes = 0;
  }

  /**
   * The bytes of some ranges, one after another. Takes its place in the queue before it returns.
   */
  async readBuffer(ranges: readonly Range[]): Promise<ArrayBuffer> {
    this.check();
    const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
    const asked = performance.now();
    try {
      const reading = this.#staging.read(total, (staging) => {
        const encoder = this.gpu.createCommandEncoder();
        let at = 0;
        for (const { buffer, offset, bytes } of ranges) {
          encoder.copyBufferToBuffer(buffer, offset, staging, at, bytes);
          at += bytes;
        }
        this.gpu.queue.submit([encoder.finish()]);
        this.#unsubmittedBytes = 0;
      });
      this.pace.drained(asked); // Deno's mapAsync returns when the queue is empty
      const bytes = await reading;
      this.check();
      return bytes;
    } catch (error) {
      this.check();
      throw new DeviceError(`reading from the GPU failed: ${messageOf(error)}`);
    }
  }

  #explain(error: GPUError): Error {
    if (error instanceof GPUOutOfMemoryError) {
      return new OutOfMemoryError(
        `the GPU ran out of memory with ${
          formatBytes(this.memory.used)
        } in use: ${error.message}. ` +
          "A smaller micro-batch or context needs less",
      );
    }
    return new DeviceError(`the GPU refused a command: ${error.message}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    if (!this.#broken) await this.gpu.queue.onSubmittedWorkDone().catch(() => {});
    await this.pace.settle();
    await this.memory.settle().catch(() => {}); // whoever made the buffer was told
    this.#closed = true;
    this.#staging.dispose();
    this.memory.releaseAll();
    this.gpu.destroy();
  }
}

/** Opens the system's GPU. `variants` names kernels to take instead of the default ones, by op. */
export async function openWebgpu(options: { variants?: Variants } = {}): Promise<WebgpuDevice> {
  return new WebgpuDevice(await openAdapter(), options.variants);
}
