export * from "./import.ts";
export * from "./mapped.ts";
export * from "./mapping.ts";
export * from "./plain.ts";
export * from "./steps.ts";
export * from "./table.ts";
export * from "./tables/mod.ts";
export * from "./weights.ts";
