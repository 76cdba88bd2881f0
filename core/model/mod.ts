export * from "./config.ts";
export * from "./model.ts";
export * from "./params.ts";
export * from "./scalars.ts";
export * from "./schema.ts";
