export * from "./base.ts";
export * from "./config.ts";
export * from "./data.ts";
export * from "./prepare.ts";
export * from "./sft.ts";
