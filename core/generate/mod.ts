export * from "./batch.ts";
export * from "./decoder.ts";
export * from "./generate.ts";
export * from "./open.ts";
export type { WeightType } from "./programs.ts";
export * from "./prompts.ts";
