export { findAdapter, grantedLimits, isSoftware } from "./adapter.ts";
export { openWebgpu, WebgpuDevice } from "./device.ts";
export { GpuExecutable } from "./executable.ts";
export type { DispatchTime } from "./profile.ts";
export {
  assumedLimits,
  type GpuLowering,
  kernelNames,
  type Variants,
  type WebgpuLimits,
  type WebgpuTarget,
  webgpuTarget,
} from "./target.ts";
