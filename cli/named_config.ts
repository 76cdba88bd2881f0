import type { PretrainConfig } from "../core/train/mod.ts";

/** A config by file, or by the name of one that quern carries. */
export async function loadNamed(
  name: string,
  overrides: readonly string[],
): Promise<PretrainConfig> {
  const { pretrainConfig } = await import("../core/train/mod.ts");
  const { loadConfig, parseConfig } = await import("../core/io/config.ts");
  const { exists } = await import("../core/io/atomic.ts");
  const { builtinConfig } = await import("./builtin_configs.ts");
  const carried = await exists(name) ? undefined : builtinConfig(name);
  return carried
    ? parseConfig(pretrainConfig, { ...carried, overrides })
    : await loadConfig(pretrainConfig, name, overrides);
}
