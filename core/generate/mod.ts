export type { Alternative } from "./alternatives.ts";
export * from "./batch.ts";
export type { ContextPolicy } from "./context.ts";
export * from "./decoder.ts";
export * from "./generate.ts";
export * from "./open.ts";
export * from "./penalties.ts";
export type { DecodeOutputs, PenaltyState, WeightType } from "./programs.ts";
export * from "./prompts.ts";
