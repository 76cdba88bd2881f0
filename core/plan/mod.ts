export { PlanError, planGraph, type PlanOptions } from "./plan.ts";
export * from "./types.ts";
