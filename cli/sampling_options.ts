/**
 * How tokens are chosen, and where a text ends: options of all commands that let a model write.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";
import { samplingDefaults } from "../core/generate/defaults.ts";
import { numberBetween, parseText, wholeNumber } from "./options.ts";

export function temperatureOption() {
  return new Option("--temperature <x>", "0 always takes the likeliest token")
    .argParser(numberBetween(0, Infinity)).default(samplingDefaults.temperature);
}

export function topKOption() {
  return new Option("--top-k <n>", "choose among the k likeliest; 0 is all")
    .argParser(wholeNumber(0)).default(samplingDefaults.topK);
}

export function topPOption() {
  return new Option(
    "--top-p <x>",
    "choose among the likeliest that together have this probability",
  ).argParser(numberBetween(0, 1)).default(samplingDefaults.topP);
}

export function minPOption() {
  return new Option("--min-p <x>", "choose among those so many times as probable as the likeliest")
    .argParser(numberBetween(0, 1)).default(samplingDefaults.minP);
}

/** A command has its own default. */
export function maxTokensOption(most: number) {
  return new Option("--max-tokens <n>", "stop after so many").argParser(wholeNumber(1))
    .default(most);
}

export function stopOption() {
  return new Option("--stop <text>", "end before this text; repeatable; \\n is a line feed")
    .argParser((text, before: string[]) => [...before, parseText(text)])
    .default([] as string[], "none");
}

/** `slide` says what a context that slides does. */
export function contextOption(slide: string) {
  return new Option("--context <policy>", `when it is full: stop, or ${slide}`)
    .choices(["stop", "slide"] as const).default("stop" as const);
}

/** How a model's matrices are kept on the device. */
export function weightsOption() {
  return new Option(
    "--weights <type>",
    "how matrices are kept: bf16 takes half the memory, int8 a quarter",
  ).choices(["f32", "bf16", "int8", "int6", "int5"] as const).default("f32" as const);
}
