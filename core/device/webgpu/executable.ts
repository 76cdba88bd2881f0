/**
 * A plan made ready: pipelines, buffers and bind groups exist; a run only encodes what is listed
 * here.
 */

import { bytesOf, type Spec } from "../../graph/mod.ts";
import type { Plan } from "../../plan/types.ts";
import type { Executable, HostArray } from "../types.ts";
import {
  allocateBuffers,
  bindJobs,
  type Buffers,
  type Dispatch,
  type GpuPlan,
  jobsOf,
  type Locate,
  locator,
  releaseBuffers,
} from "./binding.ts";
import type { Range, WebgpuDevice } from "./device.ts";
import { shaderText, uniformBytes } from "./header.ts";
import { alignUp } from "./memory.ts";
import { type DispatchTime, timeDispatches } from "./profile.ts";
import { decode } from "./readback.ts";
import type { GpuStateStore } from "./state.ts";
import { packUploads } from "./uploads.ts";

export class GpuExecutable implements Executable {
  readonly plan: Plan;
  readonly #device: WebgpuDevice;
  readonly #buffers: Buffers;
  readonly #dispatches: readonly Dispatch[];
  readonly #outputs: readonly { name: string; spec: Spec; from: Range; slotOffset: number }[];
  /** What is sent with a run; every run overwrites it, as the queue copies it at once. */
  readonly #uploads: Uint8Array<ArrayBuffer>;
  readonly #ring: number;
  readonly #slotBytes: number;
  #runs = 0;
  #read = 0;
  #disposed = false;

  /**
   * Makes everything that runs need, inside error scopes; throws `OutOfMemoryError` or
   * `DeviceError`.
   */
  static async build(
    device: WebgpuDevice,
    plan: GpuPlan,
    { state, ring }: { state: GpuStateStore; ring: number },
  ): Promise<GpuExecutable> {
    const jobs = plan.steps.flatMap((step) =>
      jobsOf(step, device.target.limits.maxWorkgroupsPerDimension)
    );
    const slotBytes = plan.outputs.reduce((sum, spec) => sum + alignUp(bytesOf(spec), 16), 0);
    const buffers = allocateBuffers(device, plan, slotBytes * ring, jobs);
    try {
      const pipelines = Promise.all(jobs.map(({ label, pass, types }) =>
        device.pipelines.get(
          label,
          shaderText(pass, types),
          Object.keys(pass.bindings).length,
          uniformBytes(pass).length,
        )
      ));
      const [made] = await Promise.all([pipelines, device.memory.settle()]);
      device.check();
      const locate = locator(device, plan, state, buffers);
      const dispatches = bindJobs(device, jobs, made, buffers, locate);
      return new GpuExecutable(device, plan, { buffers, dispatches, locate, ring, slotBytes });
    } catch (error) {
      releaseBuffers(device, buffers);
      throw error;
    }
  }

  private constructor(
    device: WebgpuDevice,
    plan: GpuPlan,
    parts: {
      buffers: Buffers;
      dispatches: readonly Dispatch[];
      locate: Locate;
      ring: number;
      slotBytes: number;
    },
  ) {
    this.plan = plan;
    this.#device = device;
    this.#buffers = parts.buffers;
    this.#dispatches = parts.dispatches;
    this.#ring = parts.ring;
    this.#slotBytes = parts.slotBytes;
    this.#uploads = new Uint8Array(alignUp(plan.totals.uploadBytes, 4));
    let slotOffset = 0;
    this.#outputs = plan.outputs.map((spec) => {
      const at = slotOffset;
      slotOffset += alignUp(bytesOf(spec), 16);
      return { name: spec.name, spec, from: parts.locate(spec.storage, spec), slotOffset: at };
    });
  }

  run(inputs: Readonly<Record<string, ArrayLike<number> | number>> = {}, times = 1): void {
    this.#check();
    this.#upload(inputs);
    let encoder = this.#device.gpu.createCommandEncoder(), work = 0;
    for (let time = 0; time < times; time++) {
      let pass: GPUComputePassEncoder | undefined, current: GPUComputePipeline | undefined;
      for (const dispatch of this.#dispatches) {
        if (work > 0 && work + dispatch.work > this.#device.pace.submitWork) {
          pass?.end();
          this.#device.submit(encoder, work);
          encoder = this.#device.gpu.createCommandEncoder();
          pass = current = undefined;
          work = 0;
        }
        pass ??= encoder.beginComputePass();
        if (dispatch.pipeline !== current) pass.setPipeline(current = dispatch.pipeline);
        pass.setBindGroup(0, dispatch.group);
        pass.dispatchWorkgroups(...dispatch.grid);
        work += dispatch.work;
      }
      pass?.end();
      this.#copyOutputs(encoder, this.#runs++ % this.#ring);
    }
    this.#device.submit(encoder, work);
  }

  #upload(inputs: Readonly<Record<string, ArrayLike<number> | number>>): void {
    packUploads(this.plan, inputs, this.#uploads);
    const { uploads } = this.#buffers;
    // The queue copies at once, and in order: a run that is under way still reads its own inputs.
    if (uploads) this.#device.gpu.queue.writeBuffer(uploads, 0, this.#uploads);
  }

  #copyOutputs(encoder: GPUCommandEncoder, slot: number): void {
    const { ring } = this.#buffers;
    if (!ring) return;
    for (const { from: { buffer, offset, bytes }, slotOffset } of this.#outputs) {
      if (bytes > 0) {
        encoder.copyBufferToBuffer(
          buffer,
          offset,
          ring,
          slot * this.#slotBytes + slotOffset,
          bytes,
        );
      }
    }
  }

  /** Runs once, and says how long each dispatch took. Outputs of this run are not kept. */
  profile(
    inputs: Readonly<Record<string, ArrayLike<number> | number>> = {},
  ): Promise<DispatchTime[]> {
    this.#check();
    this.#upload(inputs);
    return timeDispatches(this.#device, this.#dispatches);
  }

  async outputs(): Promise<Readonly<Record<string, HostArray>>[]> {
    this.#check();
    const first = this.#read, count = this.#runs - first, { ring } = this.#buffers;
    this.#read = this.#runs;
    if (count > this.#ring) {
      throw new Error(
        `outputs of ${count} runs were asked for, and only the last ${this.#ring} are kept: read more often, or compile with a longer ring`,
      );
    }
    if (count === 0 || !ring) return Array.from({ length: count }, () => ({}));
    // From the first slot to the ring's end, and on from its start.
    const slot = first % this.#ring, head = Math.min(count, this.#ring - slot);
    const ranges = [{
      buffer: ring,
      offset: slot * this.#slotBytes,
      bytes: head * this.#slotBytes,
    }];
    if (head < count) {
      ranges.push({ buffer: ring, offset: 0, bytes: (count - head) * this.#slotBytes });
    }
    const bytes = await this.#device.readBuffer(ranges);
    return Array.from({ length: count }, (_, run) =>
      Object.fromEntries(
        this.#outputs.map(({ name, spec, slotOffset }) => [
          name,
          decode(spec, bytes, run * this.#slotBytes + slotOffset),
        ]),
      ));
  }

  #check(): void {
    if (this.#disposed) throw new Error("a plan was run after it was closed");
    this.#device.check();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    releaseBuffers(this.#device, this.#buffers);
  }
}
