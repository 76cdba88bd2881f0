/**
 * Pipelines by their shader's full text, compiled in parallel, once a device. Shapes are never part
 * of the text.
 */

import { DeviceError } from "../types.ts";
import { messageOf } from "./adapter.ts";

/** A compiled shader and the layout that its bind groups need. */
export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly groupLayout: GPUBindGroupLayout;
}

interface Layouts {
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #pipelines = new Map<string, Promise<Pipeline>>();
  readonly #layouts = new Map<string, Layouts>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get size(): number {
    return this.#pipelines.size;
  }

  /** `label` names the kernel in errors. */
  get(
    label: string,
    text: string,
    storageBuffers: number,
    uniformBytes: number,
  ): Promise<Pipeline> {
    let found = this.#pipelines.get(text);
    if (!found) {
      found = this.#compile(label, text, this.#layout(storageBuffers, uniformBytes));
      this.#pipelines.set(text, found);
    }
    return found;
  }

  async #compile(label: string, code: string, layouts: Layouts): Promise<Pipeline> {
    this.#device.pushErrorScope("validation");
    const module = this.#device.createShaderModule({ code, label });
    const fault = this.#device.popErrorScope();
    const made = this.#device.createComputePipelineAsync({
      label,
      layout: layouts.pipeline,
      compute: { module, entryPoint: "main" },
    });
    try {
      const error = await fault;
      if (error) {
        await made.catch(() => {}); // it only repeats the module's error
        throw new Error(error.message);
      }
      return { pipeline: await made, groupLayout: layouts.group };
    } catch (error) {
      throw new DeviceError(`the shader of ${label} does not compile: ${messageOf(error)}`);
    }
  }

  /**
   * Written out rather than derived from the shader, where bindings that a variant does not use
   * would be missing.
   */
  #layout(storageBuffers: number, uniformBytes: number): Layouts {
    const key = `${storageBuffers} ${uniformBytes}`;
    let found = this.#layouts.get(key);
    if (!found) {
      const entries: GPUBindGroupLayoutEntry[] = Array.from(
        { length: storageBuffers },
        (_, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: "storage" },
        }),
      );
      if (uniformBytes > 0) {
        entries.push({
          binding: storageBuffers,
          visibility: GPUShaderStage.COMPUTE,
          // With the size: left to be checked at dispatch, wgpu 29 compares with another bind
          // group's.
          buffer: { type: "uniform", minBindingSize: uniformBytes },
        });
      }
      const group = this.#device.createBindGroupLayout({ entries });
      const pipeline = this.#device.createPipelineLayout({ bindGroupLayouts: [group] });
      this.#layouts.set(key, found = { group, pipeline });
    }
    return found;
  }
}
