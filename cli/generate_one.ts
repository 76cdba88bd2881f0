/**
 * One continuation on stdout, token by token.
 *
 * @module
 */
import type {
  EndEvent,
  GenerateEvent,
  GenerateOptions,
  OpenModel,
  PlacedPrompt,
  TokenEvent,
} from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { formatCount, formatDuration } from "./ui/numbers.ts";

/** Whether anything but errors goes to stderr. */
export type Verbosity = "quiet" | "normal";

/** What goes to stdout, and to stderr. */
export interface OneOutput {
  readonly format: "text" | "json";
  readonly verbosity: Verbosity;
}

/** Tokens and the time that they took. */
export type Timed = Pick<
  EndEvent,
  "promptTokens" | "tokens" | "prefillSeconds" | "decodeSeconds"
>;

/** Prints a prompt and its continuation as they come, or an object for each event. */
export async function continueOne(
  model: OpenModel,
  prompt: PlacedPrompt,
  options: GenerateOptions,
  { format, verbosity }: OneOutput,
): Promise<void> {
  const { generate, requirePrompts } = await import("../core/generate/mod.ts");
  const { seed } = options.sampling;
  requirePrompts(model, [prompt], options.context);
  if (verbosity === "normal" && isDrawn(options.sampling)) console.error(`seed ${seed}`);
  let isBegun = false, hasSlid = false, note = "";
  const say = () => {
    if (note !== "") console.error(note);
    note = "";
  };
  for await (const event of generate(model, prompt.text, options)) {
    if (format === "json") console.log(JSON.stringify(jsonOf(event, seed)));
    else {
      const text = (isBegun ? "" : prompt.text) + event.text + (event.kind === "end" ? "\n" : "");
      print(text);
      isBegun = true;
      if (text.endsWith("\n")) say();
    }
    if (event.kind === "slide" && !hasSlid) {
      hasSlid = true;
      if (verbosity === "normal") note = slideNote(model, event.kept);
      if (format === "json") say();
    }
    if (event.kind !== "end") continue;
    if (verbosity === "normal") console.error(closing(model, event));
    if (event.reason === "interrupted") {
      throw new UserError("interrupted", { exitCode: exitCodes.interrupted });
    }
  }
}

/** Writes all of it at once, so that text appears as it comes. */
export function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

/** Whether chance has a say: the likeliest token is the same with every seed. */
export function isDrawn({ temperature }: GenerateOptions["sampling"]): boolean {
  return temperature > 0;
}

/** Said at the first time, where a line of the text ends; the closing line has the count. */
function slideNote({ decoder }: OpenModel, kept: number): string {
  const full = plural(decoder.room.capacity, "token");
  return `note: the model's context of ${full} is full: it goes on from the last ${kept}`;
}

function closing({ decoder }: OpenModel, event: EndEvent): string {
  const { reason } = event, lines = [timingLine(event)];
  if (event.slides > 0) lines.push(slideLine(event));
  if (reason === "end_of_text") lines.push("stopped: the model ended the text");
  if (reason === "stop") lines.push("stopped: a stop text came");
  if (reason === "context") {
    const full = plural(decoder.room.capacity, "token");
    lines.push(`stopped: the model's context of ${full} is full; --context slide goes on`);
  }
  return lines.join("\n");
}

/** Reading and writing apart, each with its speed. */
export function timingLine({ promptTokens, tokens, prefillSeconds, decodeSeconds }: Timed): string {
  const prompt = readingTime(
    `prompt ${plural(promptTokens, "token")}`,
    promptTokens,
    prefillSeconds,
  );
  return `${prompt}, then ${formatCount(tokens)} at ${speed(tokens, decodeSeconds)}`;
}

/** What was read, how long that took, and how fast it was. */
export function readingTime(what: string, tokens: number, seconds: number): string {
  return `${what} in ${formatDuration(seconds)} at ${speed(tokens, seconds)}`;
}

export function speed(tokens: number, seconds: number): string {
  return `${formatCount(tokens / Math.max(seconds, 1e-9))} tokens/s`;
}

/** How often the context slid, and what that took. */
export function slideLine(
  { slides, rereadSeconds }: Pick<EndEvent, "slides" | "rereadSeconds">,
): string {
  const seconds = formatDuration(rereadSeconds);
  return `the context slid ${plural(slides, "time")}, ${seconds} to read again`;
}

/** A token under the names that scripts see. */
export function jsonOfToken({ kind: _, ...token }: TokenEvent): Record<string, unknown> {
  return token;
}

/** An event under the names that scripts see. */
function jsonOf(event: GenerateEvent, seed: number): Record<string, unknown> {
  if (event.kind === "token") return { kind: "token", ...jsonOfToken(event) };
  if (event.kind === "slide") return { kind: "slide", kept: event.kept };
  const { text, reason, promptTokens, tokens, prefillSeconds, decodeSeconds } = event;
  return {
    kind: "end",
    text,
    reason,
    seed,
    prompt_tokens: promptTokens,
    tokens,
    prefill_seconds: prefillSeconds,
    decode_seconds: decodeSeconds,
    slides: event.slides,
    reread_seconds: event.rereadSeconds,
  };
}
