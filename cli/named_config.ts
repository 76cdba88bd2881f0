import type { PretrainConfig } from "../core/train/mod.ts";

/** A config by file, or by the name or path of one that quern carries; `say` hears of a path that is not here. */
export async function loadNamed(
  name: string,
  overrides: readonly string[],
  say: (line: string) => void,
): Promise<PretrainConfig> {
  const { pretrainConfig } = await import("../core/train/mod.ts");
  const { loadConfig, parseConfig } = await import("../core/io/config.ts");
  const { exists } = await import("../core/io/atomic.ts");
  if (await exists(name)) return await loadConfig(pretrainConfig, name, overrides);
  const { builtinConfig, noSuchConfig } = await import("./builtin_configs.ts");
  const carried = builtinConfig(name);
  if (!carried) throw noSuchConfig(name, "there is no such file");
  if (carried.name !== name) say(`${name} is not here: quern's own ${carried.name} is taken`);
  return parseConfig(pretrainConfig, { ...carried, overrides });
}
