export * from "./checkpoint.ts";
export * from "./config.ts";
export * from "./dry_run.ts";
export * from "./events.ts";
export * from "./plans.ts";
export * from "./pretrain.ts";
export * from "./run_folder.ts";
export * from "./trainer.ts";
