export * from "./huggingface.ts";
export * from "./open.ts";
