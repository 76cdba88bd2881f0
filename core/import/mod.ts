export * from "./import.ts";
export * from "./mapping.ts";
export * from "./steps.ts";
export * from "./table.ts";
export * from "./tables/mod.ts";
