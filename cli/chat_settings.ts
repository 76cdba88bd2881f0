/**
 * What of a chat may be set while it goes on: the options that say how tokens are chosen and where an
 * answer ends, by their names.
 *
 * @module
 */
import { InvalidArgumentError, type Option } from "@commander-js/extra-typings";
import type { ChatOptions } from "../core/generate/mod.ts";
import { didYouMean, UserError } from "../core/io/errors.ts";
import { seedOption } from "./options.ts";
import { type PenaltyChoice, penaltyOption } from "./penalty_option.ts";
import {
  contextOption,
  maxTokensOption,
  minPOption,
  stopOption,
  temperatureOption,
  topKOption,
  topPOption,
} from "./sampling_options.ts";

export interface ChatSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly penalty: PenaltyChoice;
  /** Of the next answer; each has one more than the one before. */
  readonly seed: number;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly context: "stop" | "slide";
}

export const choiceOptions = {
  temperature: temperatureOption(),
  topK: topKOption(),
  topP: topPOption(),
  minP: minPOption(),
  penalty: penaltyOption(),
  seed: seedOption(),
} as const;

export const endOptions = {
  maxTokens: maxTokensOption(512),
  stop: stopOption(),
  context: contextOption("slide: the oldest turns are forgotten"),
} as const;

const options: Readonly<Record<keyof ChatSettings, Option>> = { ...choiceOptions, ...endOptions };

export const settingNames: readonly string[] = Object.values(options).map((option) =>
  option.name()
);

/** The settings with one of them changed; `default` brings back what it is where nothing is said. */
export function changed(settings: ChatSettings, name: string, value: string): ChatSettings {
  const [key, option] = requireSetting(name), before: unknown = settings[key];
  try {
    return { ...settings, [key]: valueOf(option, value, before) };
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new UserError(`${option.name()} cannot be ${value}: ${lowerCase(error.message)}`);
  }
}

/** The setting of a name, with its option. */
export function requireSetting(name: string): [keyof ChatSettings, Option] {
  const wanted = name.replaceAll("_", "-");
  const found = Object.entries(options).find(([, option]) => option.name() === wanted);
  if (found) return [found[0] as keyof ChatSettings, found[1]];
  throw new UserError(`there is no setting ${name}${didYouMean(wanted, settingNames)}`, {
    hint: `known: ${settingNames.join(", ")}`,
  });
}

function valueOf(option: Option, value: string, before: unknown): unknown {
  const isDefault = value === "default" || value === option.defaultValueDescription;
  if (isDefault && option.defaultValue !== undefined) return option.defaultValue;
  const parse = option.parseArg as ((text: string, before: unknown) => unknown) | undefined;
  return parse ? parse(unquoted(value), before) : value;
}

function unquoted(value: string): string {
  return value.match(/^"(.*)"$/s)?.[1] ?? value;
}

function lowerCase(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, "");
}

/** A line for each, as `/set` takes it. */
export function describeSettings(settings: ChatSettings): string[] {
  const { penalty, stop } = settings, { penalties, penalized } = penalty;
  const shown: Readonly<Record<string, string>> = {
    penalty:
      Object.entries(penalties).filter(([name, value]) => value !== (name === "repetition" ? 1 : 0))
        .map(([name, value]) => `${name}=${value}`)
        .concat(penalized === "all" ? ["counted=all"] : []).join(",") || "none",
    stop: stop.map((text) => JSON.stringify(text)).join(" ") || "none",
  };
  return Object.entries(options).map(([key, option]) =>
    `${option.name()} ${shown[key] ?? settings[key as keyof ChatSettings]}`
  );
}

/** What the next answer is made with. */
export function chatOptionsOf(settings: ChatSettings, signal: AbortSignal): ChatOptions {
  const { temperature, topK, topP, minP, seed, penalty: { penalties, penalized } } = settings;
  return {
    maxTokens: settings.maxTokens,
    sampling: { temperature, topK, topP, minP, seed, penalties },
    penalized,
    stops: settings.stop,
    context: settings.context,
    signal,
  };
}
