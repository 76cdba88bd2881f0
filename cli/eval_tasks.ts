/**
 * `quern eval --tasks`: a model on the standard tasks, as lm-evaluation-harness scores them.
 *
 * @module
 */
import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Device } from "../core/device/mod.ts";
import type { DataPlaces } from "../core/eval/datasets.ts";
import type { EvalSettings } from "../core/eval/evaluate.ts";
import type { Results } from "../core/eval/results/results.ts";
import type { TaskSelection } from "../core/eval/types.ts";
import { UserError } from "../core/io/errors.ts";
import { formatBytes, shellWord } from "../core/io/words.ts";
import type { OpenedModel } from "../core/open/mod.ts";
import type { ChatTemplate } from "../core/text/chat/mod.ts";
import { builtinTasks } from "./builtin_tasks.ts";
import { type DeviceChoice, openChosenDevice } from "./device_options.ts";
import { describeResults, describeTasks, EvalStory } from "./eval_story.ts";
import { hubFor } from "./hub.ts";
import { parsePath, parseSeed, wholeNumber } from "./options.ts";
import { listenForInterrupt } from "./ui/interrupt.ts";
import { printFolded } from "./ui/terminal.ts";

export const tasksHelp = `\
--tasks puts tasks to a model and scores it as lm-evaluation-harness does: choices by the log-probability of
their texts, generated answers by what is found in them. Groups are averages, each task weighted by its
documents. "--tasks list" lists them; a task of your own is a YAML file, named by its path.
Data sets are read as they lie on the Hugging Face hub (parquet or jsonl, also .gz or .zst) from the folders
of --data, as TASK.jsonl, TASK_SPLIT.jsonl, or in a folder with the data set's name; without --data from the
hub, through the cache that quern fetch uses.
With --out samples are written as they come, one line a document. An evaluation that was stopped goes on
from them: give the same command again. results.json has the harness's shape.
What prompts have in common (shots, the context of several choices) is computed once, and rows of like
lengths together; no score depends on that (--prefix-sharing off and --batch show it).`;

export const tasksExamples = `\
  quern eval --tasks list
  quern eval runs/quickstart/model --tasks arc_easy,piqa --data data --limit 200
  quern eval runs/sft --tasks mmlu,gsm8k --out evals/sft --chat
  quern eval runs/tiny --tasks my_task.yaml --num-fewshot 5 --fewshot harness`;

/** Their options. */
export function addTaskOptions(command: CommandUnknownOpts): void {
  command
    .optionsGroup("Tasks:")
    .addOption(
      new Option("--tasks <names>", "names or YAML files, with commas between; or list")
        .argParser(taskNames),
    )
    .addOption(
      new Option("--data <folder>", "where data sets lie; repeatable (default: the hub)")
        .argParser((path, before: readonly string[] | undefined) => [
          ...before ?? [],
          parsePath(path),
        ]),
    )
    .addOption(
      new Option("--limit <n>", "the first so many documents of each task").argParser(
        wholeNumber(1),
      ),
    )
    .addOption(
      new Option("--num-fewshot <n>", "examples before each document (default: the task's)")
        .argParser(wholeNumber(0)),
    )
    .addOption(
      new Option("--fewshot <way>", "the first examples, or drawn as the harness draws them")
        .choices(["first_n", "harness"] as const).default("first_n" as const),
    )
    .addOption(
      new Option("--fewshot-seed <n>", "of those draws").argParser(parseSeed).default(1234),
    )
    .option("--chat [template]", "ask as a user of a chat does (default template: the model's)")
    .addOption(
      new Option("--tokenization <way>", "of a context and what follows it")
        .choices(["joint", "separate"] as const).default("joint" as const),
    )
    .addOption(
      new Option("--max-new-tokens <n>", "of generated answers (default: the task's)")
        .argParser(wholeNumber(1)),
    )
    .addOption(
      new Option("--prefix-sharing <choice>", "compute once what prompts have in common")
        .choices(["on", "off"] as const).default("on" as const),
    )
    .option("--out <folder>", "write samples and results.json there; go on from them", parsePath)
    .option("--overwrite", "begin anew where samples of other settings are", false);
}

/** What the options say. */
export interface TaskChoice extends DeviceChoice {
  readonly tasks: readonly string[];
  readonly data?: readonly string[] | undefined;
  readonly limit?: number | undefined;
  readonly numFewshot?: number | undefined;
  readonly fewshot: "first_n" | "harness";
  readonly fewshotSeed: number;
  readonly chat?: string | true | undefined;
  readonly tokenization: "joint" | "separate";
  readonly maxNewTokens?: number | undefined;
  readonly prefixSharing: "on" | "off";
  readonly out?: string | undefined;
  readonly overwrite: boolean;
  readonly batch?: number | undefined;
  readonly checkpoint?: string | undefined;
  readonly average?: "ema" | "swa" | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Lists what `--tasks` takes. */
export async function listTasks({ json }: { readonly json: boolean }): Promise<void> {
  const { catalog } = await import("../core/eval/tasks/mod.ts");
  const known = catalog(builtinTasks);
  if (json) {
    const { tasks, groups } = known;
    console.log(JSON.stringify({ tasks: [...tasks.keys()], groups: [...groups.keys()] }));
  } else printFolded(describeTasks(known));
}

/** Evaluates, and prints what was found. */
export async function evaluateTasks(path: string, choice: TaskChoice): Promise<void> {
  const { taskOpener } = await import("../core/eval/tasks/mod.ts");
  const { openAny } = await import("../core/open/mod.ts");
  const selection = await taskOpener(builtinTasks)(choice.tasks);
  const { checkpoint, average } = choice;
  using opened = await openAny(path, { checkpoint, average });
  const settings = await settingsOf(opened, choice);
  using interruption = listenForInterrupt(
    "interrupted",
    choice.out === undefined
      ? "with --out what is done is kept, and the same command goes on"
      : "the same command goes on from what is done",
  );
  if (choice.out !== undefined && choice.overwrite) await removeSamples(choice.out, selection);
  await using device = await openChosenDevice(choice);
  const job = { opened, device, selection, settings, signal: interruption.signal };
  const results = await run(job, choice);
  if (choice.out !== undefined) {
    const { writeResults } = await import("../core/eval/results/results_file.ts");
    await writeResults(choice.out, results);
  }
  if (choice.json) console.log(JSON.stringify(results));
  else printFolded(describeResults(results, selection));
}

interface Job {
  readonly opened: OpenedModel;
  readonly device: Device;
  readonly selection: TaskSelection;
  readonly settings: EvalSettings;
  readonly signal: AbortSignal;
}

async function run(job: Job, { data, quiet, out }: TaskChoice): Promise<Results> {
  const { evaluate } = await import("../core/eval/evaluate.ts");
  const { generateAll: generate } = await import("../core/eval/generate.ts");
  const story = new EvalStory({ quiet });
  const places = await placesOf(data, job.signal, story);
  try {
    for await (const event of evaluate({ ...job, places, generate, out })) {
      if (event.kind === "results") return event.results;
      story.tell(event);
    }
    throw new Error("an evaluation ended without results");
  } finally {
    story.end();
  }
}

async function settingsOf(opened: OpenedModel, choice: TaskChoice): Promise<EvalSettings> {
  const { numFewshot, fewshot, fewshotSeed, limit, tokenization, prefixSharing } = choice;
  return {
    num_fewshot: numFewshot,
    fewshot,
    seed: fewshotSeed,
    limit,
    tokenization,
    sharing: prefixSharing,
    batch: choice.batch,
    max_new_tokens: choice.maxNewTokens,
    chat: await chatOf(opened, choice.chat),
  };
}

async function chatOf(
  { folder }: OpenedModel,
  chat: string | true | undefined,
): Promise<ChatTemplate | undefined> {
  if (chat === undefined) return undefined;
  const { findChatTemplate, openChatTemplate } = await import("../core/text/chat/mod.ts");
  if (chat !== true) return await openChatTemplate(chat);
  const found = await findChatTemplate(folder);
  if (found) return found;
  throw new UserError("the model has no chat template", {
    where: folder,
    hint: "name one, as in --chat chatml, or leave --chat out",
  });
}

async function placesOf(
  folders: readonly string[] = [],
  signal: AbortSignal,
  story: EvalStory,
): Promise<DataPlaces> {
  if (folders.length > 0) return { folders };
  const { readSettings } = await import("../core/hub/mod.ts");
  const settings = await readSettings((name) => Deno.env.get(name));
  const onRetry = ({ what, reason }: { what: string; reason: string }) =>
    story.note(`${what}: ${reason}`);
  const hub = hubFor(settings, { timeoutSeconds: 30, signal, onRetry });
  return {
    folders: [],
    hub: {
      hub,
      cache: settings.cache,
      onEvent(event, { id }) {
        if (event.kind === "start" && event.missingFiles > 0) {
          story.note(`fetching ${id}: ${formatBytes(event.missingBytes)}`);
        }
      },
    },
  };
}

/** Removes an evaluation's own files, and nothing else that lies there. */
async function removeSamples(folder: string, { tasks }: TaskSelection): Promise<void> {
  const { samplesPath } = await import("../core/eval/results/samples.ts");
  const { settingsPath } = await import("../core/eval/results/settings.ts");
  for (
    const path of [
      settingsPath(folder),
      ...tasks.map(({ name }) => samplesPath(folder, name)),
    ]
  ) {
    await Deno.remove(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

function taskNames(text: string): string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.every((name) => name !== "")) return names;
  throw new UserError(`a name is missing: ${shellWord(text)}`, {
    where: "--tasks",
    hint: "write them with commas between, as in arc_easy,piqa",
  });
}
