export { PlanError } from "./error.ts";
export { layOut } from "./memory.ts";
export { planGraph, type PlanOptions } from "./plan.ts";
export * from "./types.ts";
