export { adamWConfig } from "./adamw.ts";
export { slowAverage } from "./ademamix.ts";
export * from "./averages.ts";
export * from "./decay.ts";
export { newtonSchulz } from "./muon.ts";
export * from "./optimizer.ts";
export type * from "./record.ts";
export * from "./schedule.ts";
export * from "./span.ts";
