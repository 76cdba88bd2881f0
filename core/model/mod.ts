export * from "./config.ts";
export * from "./grow.ts";
export * from "./model.ts";
export * from "./params.ts";
export * from "./precision.ts";
export * from "./run_values.ts";
export * from "./scalars.ts";
export * from "./schema.ts";
