export * from "./attention.ts";
export * from "./heads.ts";
export * from "./inputs.ts";
export * from "./mlps.ts";
export * from "./norms.ts";
export * from "./params.ts";
export * from "./part.ts";
export * from "./residual.ts";
