/** Configs of all kinds of runs, and what their runs have in common. */

import { join } from "node:path";
import { parse, YAMLParseError } from "yaml";
import { exists } from "../io/atomic.ts";
import { loadConfig } from "../io/config.ts";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { shellWord } from "../io/words.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type PretrainConfig, pretrainConfig, verbOf } from "./config.ts";
import { configFile } from "./run_files.ts";
import { type SftConfig, sftConfig } from "../sft/config.ts";

/** The schemas, by the command that takes such configs. */
export const configKinds = { pretrain: pretrainConfig, sft: sftConfig };
export type ConfigKind = keyof typeof configKinds;

export type AnyConfig = PretrainConfig | SftConfig;

/** The kind that a config's text says it is. What is wrong with the text is said by who reads it whole. */
export function kindOf(text: string): ConfigKind {
  try {
    const value: unknown = parse(text, { logLevel: "silent" });
    const kind = typeof value === "object" && value !== null
      ? Reflect.get(value, "kind")
      : undefined;
    return kind === "sft" ? "sft" : "pretrain";
  } catch (error) {
    if (error instanceof YAMLParseError) return "pretrain";
    throw error;
  }
}

/** The config of a run of any kind. */
export async function readRunConfig(run: string): Promise<AnyConfig> {
  const { kind, path } = await findConfig(run);
  return kind === "sft"
    ? await loadConfig(sftConfig, path)
    : await loadConfig(pretrainConfig, path);
}

/** The config of a run of pretraining, with overrides. */
export async function readPretrainConfig(
  run: string,
  overrides: readonly string[] = [],
): Promise<PretrainConfig> {
  return await loadConfig(pretrainConfig, await requireKind(run, "pretrain"), overrides);
}

/** The config of a run of fine-tuning, with overrides. */
export async function readSftConfig(
  run: string,
  overrides: readonly string[] = [],
): Promise<SftConfig> {
  return await loadConfig(sftConfig, await requireKind(run, "sft"), overrides);
}

async function requireKind(run: string, wanted: ConfigKind): Promise<string> {
  const { kind, path } = await findConfig(run);
  if (kind === wanted) return path;
  throw new UserError(`it is a run of quern ${kind}`, {
    where: run,
    hint: `go on with it: quern ${kind} --resume ${shellWord(run)}`,
  });
}

async function findConfig(run: string): Promise<{ kind: ConfigKind; path: string }> {
  const path = join(run, configFile);
  if (!await exists(path)) {
    throw new UserError("not a run folder: it has no config.yaml", {
      where: run,
      exitCode: exitCodes.usage,
    });
  }
  try {
    return { kind: kindOf(await Deno.readTextFile(path)), path };
  } catch (error) {
    throw new UserError(messageOf(error), {
      where: path,
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
}

/** The token before each text of such a run, which a prompt gets, too; undefined where there is none. */
export function textBeginning(
  config: AnyConfig,
  { endOfText, specialTokens }: Pick<Tokenizer, "endOfText" | "specialTokens">,
): number | undefined {
  if (verbOf(config) === "pretrain") {
    return config.data.packing === "documents" ? endOfText : undefined;
  }
  const { beginning } = config as SftConfig;
  return beginning == null ? undefined : specialTokens.get(beginning);
}
