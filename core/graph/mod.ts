export * from "./autograd.ts";
export * from "./halves.ts";
export * from "./interpret.ts";
export * from "./random.ts";
export * from "./reveal.ts";
export * from "./tensor.ts";
export * from "./trace.ts";
export * from "./tree.ts";
