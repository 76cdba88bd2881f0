export * from "./card.ts";
export * from "./figures.ts";
export * from "./gguf.ts";
export * from "./huggingface.ts";
export * from "./shards.ts";
export * from "./tokenizer.ts";
