/**
 * `quern chat`: a conversation with a model.
 *
 * @module
 */
import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import type { OpenModel } from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import type { ChatTemplate } from "../core/text/chat/mod.ts";
import { choiceOptions, endOptions } from "./chat_settings.ts";
import { blasOption, deviceOption, openChosenDevice, threadsOption } from "./device_options.ts";
import { isDrawn } from "./generate_one.ts";
import { parsePath } from "./options.ts";
import { weightsOption } from "./sampling_options.ts";
import { formatCount } from "./ui/numbers.ts";
import { averageOption, checkpointOption, modelArgument } from "./weights_options.ts";
import { noteFolded } from "./ui/terminal.ts";

const help = `
On a terminal: a line is a message; it goes on in the next after a backslash at its end, by Alt-Enter, and
from """ to """. Pasted lines are one message. /help lists the commands: /system, /clear, /undo,
/regenerate, /set, /save, /load, /quit. Ctrl-C stops an answer and keeps what was said; from an empty line
it leaves, as Ctrl-D does. What is typed is kept for the arrow keys in $XDG_STATE_HOME/quern/chat_history,
else in ~/.local/state/quern, for its owner alone.
In a pipe: each line of stdin is a message, or a command, and answers go to stdout; --json prints
{"role": "assistant", "content", "reason", "seed", …} for each.
Keys and values are kept from turn to turn: only what is new is read. The first answer draws with the seed
that is told, each further one with the next.
--penalty repetition=1.2, presence=0.5 or frequency=0.5 makes tokens of the answer less likely that it has
used; counted=all counts those of the conversation, too.
With --context slide a full context forgets its oldest turns, whole, until half of it is free, and keeps the
system's message; with stop the answer ends there, which is said.
The form of conversations comes with the model, as its chat template; a model without one was never taught
turns. --template says which it learned all the same.

Examples:
  quern chat runs/chat
  quern chat runs/chat --system "Answer in one word." --temperature 0
  quern chat runs/chat --context slide --max-tokens 200
  quern chat path/to/Qwen3-0.6B --weights bf16
  echo "What is 3 + 4?" | quern chat runs/chat --temperature 0
  quern chat runs/chat --json < questions.txt > answers.jsonl`;

/** The command with its options. */
export function chatCommand(): CommandUnknownOpts {
  return new Command("chat")
    .summary("talk with a model that was tuned on conversations")
    .description("Talks with a model that was tuned on conversations, turn by turn.")
    .argument("<run>", modelArgument)
    .addOption(checkpointOption())
    .addOption(averageOption())
    .optionsGroup("Conversation:")
    .option("--system <text>", "what the system says before all else")
    .option(
      "--template <name>",
      "chatml, or a file that has one (default: the model's own)",
      parsePath,
    )
    .option("--no-history", "keep nothing of what is typed")
    .optionsGroup("Choice of tokens:")
    .addOption(choiceOptions.temperature)
    .addOption(choiceOptions.topK)
    .addOption(choiceOptions.topP)
    .addOption(choiceOptions.minP)
    .addOption(choiceOptions.penalty)
    .addOption(choiceOptions.seed)
    .optionsGroup("End of an answer:")
    .addOption(endOptions.maxTokens)
    .addOption(endOptions.stop)
    .addOption(endOptions.context)
    .optionsGroup("Device:")
    .addOption(weightsOption())
    .addOption(deviceOption())
    .addOption(blasOption())
    .addOption(threadsOption())
    .optionsGroup("Output:")
    .option("--json", "an object for each answer, one a line", false)
    .option("--quiet", "say nothing on stderr but errors and what commands say", false)
    .addHelpText("after", help)
    .action(async (run, options) => {
      const { temperature, topK, topP, minP, penalty, maxTokens, stop, context } = options;
      const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
      const settings = { temperature, topK, topP, minP, penalty, seed, maxTokens, stop, context };
      const { openModel } = await import("../core/generate/mod.ts");
      const { isEditable, pipedLines, terminalLines } = await import("./chat_lines.ts");
      const { chatBy } = await import("./chat_loop.ts");
      await using device = await openChosenDevice(options);
      using open = await openModel(run, device, {
        weights: options.weights,
        penalties: "counted", // may be set at any time
        ...(options.checkpoint !== undefined && { checkpoint: options.checkpoint }),
        ...(options.average && { average: options.average }),
      });
      const template = await templateFor(run, open, options.template);
      const say = (text: string) => {
        if (!options.quiet) noteFolded(text);
      };
      const isTyped = isEditable();
      if (isTyped) say(introduction(run, open, template));
      if (isDrawn({ temperature, topK, topP, seed })) say(`seed ${seed}`);
      using lines = isTyped
        ? await terminalLines({ keepsHistory: options.history, note: say })
        : pipedLines();
      await chatBy(lines, { model: { ...open, template }, settings, system: options.system }, {
        format: options.json ? "json" : "text",
        verbosity: options.quiet ? "quiet" : "normal",
      });
    });
}

function introduction(run: string, { decoder }: OpenModel, { name }: ChatTemplate): string {
  const context = formatCount(decoder.room.capacity);
  return `${run}: ${name}, a context of ${context} tokens. /help lists commands, Ctrl-D leaves.`;
}

/** The form of conversations that a model learned, or that it is said to have learned. */
async function templateFor(
  run: string,
  { folder, tokenizer }: OpenModel,
  wanted: string | undefined,
): Promise<ChatTemplate> {
  const { endOfTurn, findChatTemplate, missingTokens, openChatTemplate } = await import(
    "../core/text/chat/mod.ts"
  );
  const template = wanted === undefined
    ? await findChatTemplate(folder)
    : await openChatTemplate(wanted);
  if (!template) {
    throw new UserError(
      "it has no chat template: it learned to continue texts, not to take turns",
      {
        where: run,
        hint: `quern sft teaches it, quern generate continues a text; ` +
          `--template chatml chats in that form all the same`,
        exitCode: exitCodes.failed,
      },
    );
  }
  const [missing] = missingTokens(template, tokenizer);
  if (missing !== undefined) {
    throw new UserError(
      `it has no token ${missing}, which the chat template ${template.name} needs`,
      {
        where: run,
        hint: "quern sft adds it, and teaches the model turns",
        exitCode: exitCodes.failed,
      },
    );
  }
  endOfTurn(template, tokenizer); // whatever else it lacks is said before anything is typed
  return template;
}
