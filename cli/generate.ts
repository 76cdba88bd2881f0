/**
 * `quern generate`: continues a prompt with a trained model.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { GenerateEvent, GenerateOptions, OpenModel } from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { blasOption, deviceOption, openChosenDevice, threadsOption } from "./device_options.ts";
import { numberBetween, parseText, seedOption, wholeNumber } from "./options.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { formatCount, formatDuration } from "./ui/numbers.ts";

const help = `
The prompt and its continuation go to stdout; the seed, the time it took and why it stopped to stderr.
A stop text is looked for in what is generated, across the edges of tokens, and is not printed.
Top-k cuts first, then the temperature is applied, then top-p cuts. A model that was trained on documents
gets the token that begins one before the prompt, as it did in training.

Examples:
  quern generate runs/shakespeare "ROMEO:" --max-tokens 300
  quern generate runs/shakespeare "ROMEO:" --temperature 0
  quern generate runs/shakespeare "ROMEO:" --stop "\\n\\n" --stop JULIET
  echo "Once upon a time" | quern generate runs/quickstart - --top-k 20 --seed 7`;

/** The command with its options. */
export function generateCommand(): CommandUnknownOpts {
  return new Command("generate")
    .summary("continue a prompt with a trained model")
    .description("Continues a prompt with a trained model, token by token.")
    .argument("<run>", "run folder, or one of its checkpoint folders")
    .argument("[prompt]", "text; - reads it from stdin", "")
    .addOption(
      new Option("--max-tokens <n>", "stop after so many").argParser(wholeNumber(1)).default(256),
    )
    .addOption(
      new Option("--temperature <x>", "0 always takes the likeliest token")
        .argParser(numberBetween(0, Infinity)).default(0.8),
    )
    .addOption(
      new Option("--top-k <n>", "choose among the k likeliest; 0 is all").argParser(wholeNumber(0))
        .default(0),
    )
    .addOption(
      new Option("--top-p <x>", "choose among the likeliest that together have this probability")
        .argParser(numberBetween(0, 1)).default(1),
    )
    .addOption(
      new Option("--stop <text>", "end before this text; repeatable; \\n is a line feed")
        .argParser((text, before: string[]) => [...before, parseText(text)]).default(
          [] as string[],
        ),
    )
    .addOption(
      new Option("--weights <type>", "how matrices are kept; bf16 takes half the memory")
        .choices(["f32", "bf16"] as const).default("f32" as const),
    )
    .addOption(seedOption())
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .option("--json", "one JSON object a token, and one at the end", false)
    .option("--quiet", "say nothing on stderr but errors", false)
    .addHelpText("after", help)
    .action(async (run, prompt, options) => {
      const { openModel } = await import("../core/generate/mod.ts");
      const text = prompt === "-" ? await readStdin() : prompt;
      const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
      using interruption = listenForInterrupt("interrupted");
      await using device = await openChosenDevice(options);
      using model = await openModel(run, device, { weights: options.weights });
      const { temperature, topK, topP } = options;
      await show(model, text, {
        maxTokens: options.maxTokens,
        sampling: { temperature, topK, topP, seed },
        stops: options.stop,
        signal: interruption.signal,
      }, options);
    });
}

/** The line feed that a shell adds at the end of a pipe is no part of the prompt. */
async function readStdin(): Promise<string> {
  const bytes = await new Response(Deno.stdin.readable).bytes();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/\r?\n$/, "");
  } catch (error) {
    throw new UserError("the prompt on stdin is not valid UTF-8", {
      hint: "convert it, for example with iconv",
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
}

async function show(
  model: OpenModel,
  prompt: string,
  options: GenerateOptions,
  { json, quiet }: { json: boolean; quiet: boolean },
): Promise<void> {
  const { generate } = await import("../core/generate/mod.ts");
  const { seed } = options.sampling;
  if (!quiet) console.error(`seed ${seed}`);
  let isBegun = false;
  for await (const event of generate(model, prompt, options)) {
    if (json) console.log(JSON.stringify(jsonOf(event, seed)));
    else {
      print((isBegun ? "" : prompt) + event.text + (event.kind === "end" ? "\n" : ""));
      isBegun = true;
    }
    if (event.kind !== "end") continue;
    if (!quiet) console.error(closing(model, event));
    if (event.reason === "interrupted") {
      throw new UserError("interrupted", { exitCode: exitCodes.interrupted });
    }
  }
}

function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

type EndEvent = Extract<GenerateEvent, { kind: "end" }>;

function closing({ decoder }: OpenModel, event: EndEvent): string {
  const { promptTokens, tokens, prefillSeconds, decodeSeconds } = event;
  const rate = formatCount(tokens / Math.max(decodeSeconds, 1e-9));
  const timing = `prompt ${plural(promptTokens, "token")} in ${
    formatDuration(prefillSeconds)
  }, then ${formatCount(tokens)} at ${rate} tokens/s`;
  if (event.reason !== "context") return timing;
  return `${timing}\nstopped: the model's context of ${
    plural(decoder.room.capacity, "token")
  } is full`;
}

/** An event under the names that scripts see. */
function jsonOf(event: GenerateEvent, seed: number): Record<string, unknown> {
  if (event.kind === "token") return { ...event };
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
  };
}
