export * from "./average.ts";
export { tokenName } from "./beginning.ts";
export * from "./gguf.ts";
export * from "./huggingface.ts";
export * from "./import.ts";
export { readJson } from "./json.ts";
export * from "./open.ts";
