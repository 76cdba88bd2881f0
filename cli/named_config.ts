/**
 * Configs by file, or by the name or path of one that quern carries.
 *
 * @module
 */
import type { z } from "zod";
import type { AnyConfig, ConfigKind, configKinds, PretrainConfig } from "../core/train/mod.ts";
import { UserError } from "../core/io/errors.ts";
import { shellWord } from "../core/io/words.ts";

/** Hears of a path that is not here. */
type Say = (line: string) => void;

/** A config of pretraining. */
export async function loadNamed(
  name: string,
  overrides: readonly string[],
  say: Say,
): Promise<PretrainConfig> {
  return await loadNamedAs("pretrain", name, overrides, say);
}

/** A config that a command takes; one of another command is refused. */
export async function loadNamedAs<K extends ConfigKind>(
  wanted: K,
  name: string,
  overrides: readonly string[],
  say: Say,
): Promise<z.output<typeof configKinds[K]>> {
  const { kind, load } = await findNamed(name, say);
  if (kind === wanted) return await load(overrides) as z.output<typeof configKinds[K]>;
  throw new UserError(`this is a config of quern ${kind}`, {
    where: name,
    hint: `quern ${kind} ${shellWord(name)}`,
  });
}

/** A config of any command. */
export async function loadNamedAny(name: string, say: Say): Promise<AnyConfig> {
  const { load } = await findNamed(name, say);
  return await load([]);
}

interface Found {
  readonly kind: ConfigKind;
  load(overrides: readonly string[]): Promise<AnyConfig>;
}

async function findNamed(name: string, say: Say): Promise<Found> {
  const { configKinds, kindOf } = await import("../core/train/mod.ts");
  const { loadConfig, parseConfig } = await import("../core/io/config.ts");
  const { exists } = await import("../core/io/atomic.ts");
  if (await exists(name)) {
    const text = await Deno.readTextFile(name).catch(() => ""); // loading it says what is wrong
    const kind = kindOf(text), schema = configKinds[kind];
    return { kind, load: (overrides) => loadConfig<z.ZodType<AnyConfig>>(schema, name, overrides) };
  }
  const { builtinConfig, noSuchConfig } = await import("./builtin_configs.ts");
  const carried = builtinConfig(name);
  if (!carried) throw noSuchConfig(name, "there is no such file");
  if (carried.name !== name) say(`${name} is not here: quern's own ${carried.name} is taken`);
  const kind = kindOf(carried.text), schema = configKinds[kind];
  return {
    kind,
    load: (overrides) =>
      Promise.resolve(parseConfig<z.ZodType<AnyConfig>>(schema, { ...carried, overrides })),
  };
}
