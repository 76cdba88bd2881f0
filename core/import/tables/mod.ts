import type { ImportTable } from "../table.ts";
import { llama } from "./llama.ts";
import { neollm } from "./neollm.ts";
import { polyglu } from "./polyglu.ts";
import { recycledCore } from "./recycled_core.ts";
import { veronica } from "./veronica.ts";

/** All architectures that are known, by name. Llama's names are among others' too: it comes first. */
export const importTables: Readonly<Record<string, ImportTable>> = Object.fromEntries(
  [llama, polyglu, veronica, neollm, recycledCore].map((table) => [table.name, table]),
);

export { llama };
export * from "./gguf.ts";
export * from "./quern.ts";
