/**
 * `quern generate`: continues a prompt with a trained model.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { GenerateOptions, PlacedPrompt } from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { blasOption, deviceOption, openChosenDevice, threadsOption } from "./device_options.ts";
import { continueMany } from "./generate_many.ts";
import { continueOne } from "./generate_one.ts";
import { parsePath, seedOption, wholeNumber } from "./options.ts";
import { penaltyOption } from "./penalty_option.ts";
import {
  contextOption,
  maxTokensOption,
  minPOption,
  stopOption,
  temperatureOption,
  topKOption,
  topPOption,
  weightsOption,
} from "./sampling_options.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";

const help = `
The prompt and its continuation go to stdout; the seed, the time it took and why it stopped to stderr.
The seed reproduces the text. With --n or --prompts, seeds count up: each text is what its prompt gives
alone with its seed. A file of --prompts has one prompt a line, as text or, in .jsonl, as the field
"prompt"; each gives a line {"index", "prompt", "text", "reason", "seed", …}.
--json prints {"kind": "token", "id", "text", "logprob"} for each token and {"kind": "end", …}; with --n
or --prompts a line for each text, which has its tokens as "logprobs".
Log-probabilities are the model's own (the logarithm of the softmax of its logits), before penalties,
temperature and cuts, also those of --alternatives.
With --context slide a text, or a prompt, may be longer than the model's context: when that is full
its last half is read again, as if nothing had been before it.
A stop text is looked for in what is generated, across the edges of tokens, and is not printed.
--penalty repetition=1.2 divides logits above 0, and multiplies those below, of tokens that were
generated; presence=0.5 is taken from them once, frequency=0.5 for each time; counted=all counts the
prompt's tokens, too. Penalties come first, then top-k cuts, then the temperature is applied, then
top-p cuts, then min-p. Temperature 0 takes the likeliest token after penalties, whatever the cuts.
A model that was trained on documents gets the token that begins one before the prompt, as in training.

Examples:
  quern generate runs/shakespeare "ROMEO:" --max-tokens 300
  quern generate runs/shakespeare "ROMEO:" --temperature 0 --penalty repetition=1.2
  quern generate runs/shakespeare "ROMEO:" --stop "\\n\\n" --stop JULIET
  quern generate runs/shakespeare "ROMEO:" --n 3 --seed 7
  quern generate runs/shakespeare "ROMEO:" --checkpoint best
  quern generate runs/shakespeare "ROMEO:" --json --alternatives 5
  quern generate runs/shakespeare --prompts questions.jsonl --temperature 0 > answers.jsonl
  echo "Once upon a time" | quern generate runs/quickstart/model - --top-k 20 --seed 7`;

/** The command with its options. */
export function generateCommand(): CommandUnknownOpts {
  return new Command("generate")
    .summary("continue a prompt with a trained model")
    .description("Continues a prompt with a trained model, token by token.")
    .argument("<run>", modelArgument)
    .argument("[prompt]", "text; - reads it from stdin (default: no text)")
    .addOption(checkpointOption())
    .addOption(averageOption())
    .optionsGroup("Prompts:")
    .option("--prompt-file <file>", "read the prompt from a file; - is stdin", parsePath)
    .option("--prompts <file>", "continue each line of a file; prints jsonl", parsePath)
    .addOption(
      new Option("--n <n>", "so many continuations of each prompt").argParser(wholeNumber(1))
        .default(1),
    )
    .addOption(
      new Option("--batch <n>", "how many continuations are made at once, with --prompts or --n")
        .argParser(wholeNumber(1)).default(8),
    )
    .optionsGroup("Choice of tokens:")
    .addOption(temperatureOption())
    .addOption(topKOption())
    .addOption(topPOption())
    .addOption(minPOption())
    .addOption(penaltyOption())
    .addOption(seedOption())
    .optionsGroup("End of a text:")
    .addOption(maxTokensOption(256))
    .addOption(stopOption())
    .addOption(contextOption("slide to its last half and go on"))
    .optionsGroup("Device:")
    .addOption(weightsOption())
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .optionsGroup("Output:")
    .option("--json", "tell of each token; one JSON object a line", false)
    .addOption(
      new Option("--alternatives <k>", "with --json: the k likeliest tokens at each place")
        .argParser(wholeNumber(0)).default(0),
    )
    .option("--quiet", "say nothing on stderr but errors", false)
    .addHelpText("after", help)
    .action(async (run, prompt, options) => {
      if (options.alternatives > 0 && !options.json) {
        throw new UserError("--alternatives come with the tokens of --json", {
          hint: "add --json",
        });
      }
      const prompts = await promptsOf(prompt, options);
      const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
      using interruption = listenForInterrupt("interrupted");
      const { temperature, topK, topP, minP, penalty: { penalties, penalized } } = options;
      const settings: GenerateOptions = {
        maxTokens: options.maxTokens,
        sampling: { temperature, topK, topP, minP, seed, penalties },
        penalized,
        stops: options.stop,
        alternatives: options.alternatives,
        context: options.context,
        signal: interruption.signal,
      };
      const { hasPenalties, openModel } = await import("../core/generate/mod.ts");
      await using device = await openChosenDevice(options);
      const isOne = options.n === 1 && options.prompts === undefined;
      const batch = isOne ? 1 : Math.min(options.batch, options.n * prompts.length);
      using model = await openModel(run, device, {
        checkpoint: options.checkpoint,
        average: options.average,
        weights: options.weights,
        batch,
        outputs: options.alternatives > 0 ? "logits" : "tokens",
        penalties: hasPenalties(penalties) ? "counted" : "none",
      }).catch((error) => {
        throw batch > 1 ? withBatchHint(error, batch) : error;
      });
      const verbosity = options.quiet ? "quiet" : "normal";
      if (isOne) {
        const format = options.json ? "json" : "text";
        await continueOne(model, prompts[0], settings, { format, verbosity });
      } else {
        const format = options.json ? "tokens" : options.prompts === undefined ? "text" : "records";
        await continueMany(model, { prompts, n: options.n }, settings, { format, verbosity });
      }
    });
}

/** Where the memory does not suffice, `--batch` is what a user can change. */
function withBatchHint(error: unknown, batch: number): unknown {
  const isTooMuch = error instanceof Error &&
    Reflect.get(error, "exitCode") === exitCodes.outOfMemory;
  if (!isTooMuch) return error;
  return new UserError(`${plural(batch, "continuation")} at once do not fit: ${error.message}`, {
    hint: "use a smaller --batch",
    exitCode: exitCodes.outOfMemory,
    cause: error,
  });
}

interface PromptOptions {
  readonly promptFile?: string | undefined;
  readonly prompts?: string | undefined;
  readonly quiet: boolean;
}

/** What is to be continued, from the one place that was given. */
async function promptsOf(
  prompt: string | undefined,
  { promptFile, prompts, quiet }: PromptOptions,
): Promise<readonly PlacedPrompt[]> {
  const given = [prompt, promptFile, prompts].filter((source) => source !== undefined);
  if (given.length > 1) {
    throw new UserError("the prompt is given more than once", {
      hint: "leave one: the prompt itself, --prompt-file or --prompts",
    });
  }
  const { readPrompt, readPrompts } = await import("../core/generate/prompts.ts");
  if (prompts !== undefined) {
    const { prompts: lines, blank } = await readPrompts(prompts);
    if (blank > 0 && !quiet) console.error(`${plural(blank, "blank line")} left out`);
    return lines;
  }
  const file = prompt === "-" ? "-" : promptFile;
  return [file === undefined ? { text: prompt ?? "" } : await readPrompt(file)];
}
