/**
 * `quern sft`: conversations to a tuned model in a run folder.
 *
 * @module
 */
import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { UserError } from "../core/io/errors.ts";
import type { OpenConversations, SftBase, SftConfig } from "../core/sft/mod.ts";
import type { PlannedConfig } from "../core/train/mod.ts";
import { wholeNumber } from "./options.ts";
import { loadNamedAs } from "./named_config.ts";
import type { DataFacts, Resolved } from "./run_memory.ts";
import { sftNotes, sftRemarks } from "./sft_notes.ts";
import { type Looked, lookWith, type Opening, type TrainVerb, trainWith } from "./train_run.ts";
import { loadStart, lookAt, type Start, startOf, trainCommand } from "./train_start.ts";
import { formatCount } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";

const help = `
The model is that of --from, or of the config's \`from\`: a run, one of its checkpoints, or a folder in
Hugging Face's layout. Loss is on the assistant's words alone. Conversations are rendered once, into
the run folder; what is cut, left out or cannot be learned from is counted and said.
Ctrl-C finishes the step, saves, and says how to resume; a second one stops at once.

Examples:
  quern sft sft-chat --from runs/quickstart/model --set data.path=chat.jsonl
  quern sft chat.yaml --freeze 'layers.*.mlp.router'
  quern sft chat.yaml --show 3
  quern sft chat.yaml --dry-run
  quern sft --resume runs/chat`;

/** The command with its options. */
export function sftCommand(): CommandUnknownOpts {
  return trainCommand("sft", "tune this run, checkpoint or folder in Hugging Face's layout")
    .addOption(
      new Option(
        "--freeze <path>",
        "parameters that are not trained, or parts of the model; * stands for any text; repeatable",
      ).argParser((value: string, before: string[] | undefined) => [...before ?? [], value]),
    )
    .option(
      "--show <n>",
      "print so many examples with what is trained on, and do nothing",
      wholeNumber(1),
    )
    .option("--ids", "with --show: every token's id", false)
    .summary("fine-tune a model on conversations")
    .description("Fine-tunes a trained model on conversations, as a YAML config says.")
    .addHelpText("after", help)
    .action(async (config, options, command) => {
      const { json, quiet, freeze = [], from } = options;
      if (options.ids && options.show === undefined) {
        throw new UserError("--ids is of what --show shows", { hint: "add --show 3, say" });
      }
      const set = [
        ...options.set ?? [],
        ...from === undefined ? [] : [`from=${from}`],
        ...freeze.length > 0 ? [`optimizer.freeze=${JSON.stringify([{ params: freeze }])}`] : [],
      ];
      const example = "quern sft sft-chat --from runs/mine";
      const start = startOf(config, { ...options, set }, { command, example });
      if (options.show !== undefined) await show(start, options.show, options);
      else if (options.dryRun) await lookWith(tuning, start, options);
      else await trainWith(tuning, start, options, { json, quiet, summary: true });
    });
}

const tuning: TrainVerb<SftConfig> = {
  load: (name, overrides, say) => loadNamedAs("sft", name, withoutEpochs(overrides), say),
  readRun: async (run, overrides) =>
    await (await import("../core/train/mod.ts")).readSftConfig(run, overrides),
  async open(config, opening) {
    const { conversationData } = await import("../core/sft/mod.ts");
    await using stack = new AsyncDisposableStack();
    const base = stack.use(await baseOf(config, opening));
    const { at: { run, checkpoint } } = opening;
    const conversations = stack.use(
      await openConversations(run, config, base, {
        ...opening,
        isTrained: checkpoint !== undefined,
      }),
    );
    const owned = stack.move();
    return {
      ...await lookedAt(config, base, conversations),
      from: base.weights,
      data: (config) => conversationData(conversations, config as never),
      remarks: sftRemarks(conversations),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  },
  async look(config, opening) {
    await using stack = new AsyncDisposableStack();
    const base = stack.use(await baseOf(config, opening));
    // elsewhere: nothing is written into a run's folder, nor beside it
    const folder = await Deno.makeTempDir({ prefix: "quern-sft-" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    const conversations = stack.use(
      await openConversations(folder, config, base, { ...opening, isTrained: false }),
    );
    const owned = stack.move();
    const looked = await lookedAt(config, base, conversations);
    return { ...looked, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  },
  more: (_, step) => `steps=${2 * step}`,
};

/** Steps from the command line stand in place of a config's epochs. */
function withoutEpochs(overrides: readonly string[]): readonly string[] {
  const says = (field: string) => overrides.some((override) => override.startsWith(`${field}=`));
  return says("steps") && !says("epochs") ? [...overrides, "epochs=null"] : overrides;
}

/** Prints examples; makes no run and needs no device. */
async function show(
  start: Start,
  count: number,
  { ids, json, quiet }: { readonly ids: boolean; readonly json: boolean; readonly quiet: boolean },
): Promise<void> {
  const { trainedOutcomes } = await import("../core/sft/mod.ts");
  const { showExamples } = await import("./sft_show.ts");
  const say = (line: string) => json || quiet || console.error(line);
  const at = await lookAt(start), config = await loadStart(start, at, { ...tuning, say });
  using base = await baseOf(config, { start, at, say, signal: undefined });
  const lines = showExamples(trainedOutcomes({ config, form: base.form }), {
    tokenizer: base.form.tokenizer,
    count,
    ids: ids ? "shown" : "hidden",
    format: json ? "json" : "text",
  });
  for await (const line of lines) console.log(line);
}

async function baseOf(
  config: SftConfig,
  { start, at: { run, checkpoint } }: Opening,
): Promise<SftBase> {
  const { openBase, reopenBase } = await import("../core/sft/mod.ts");
  if (checkpoint !== undefined) return await reopenBase(run, config);
  const average = start.kind === "resume" ? undefined : start.weights?.average;
  return await openBase(config, { average });
}

async function openConversations(
  run: string,
  config: SftConfig,
  { form }: SftBase,
  { say, signal, isTrained }: Opening & { readonly isTrained: boolean },
): Promise<OpenConversations> {
  const { openRunConversations } = await import("../core/sft/mod.ts");
  const progress = progressLine("quiet");
  try {
    return await openRunConversations(run, { config, form }, {
      isTrained,
      onProgress: ({ conversations }) =>
        progress.update(() => `${formatCount(conversations)} conversations are read`),
      onShape: (file, shape) => say(`${file}: ${shape}`),
      onSkip: ({ where, message }) => say(`left out: ${where}: ${message}`),
      ...(signal && { signal }),
    });
  } finally {
    progress.end();
  }
}

async function lookedAt(
  given: SftConfig,
  base: SftBase,
  { prepared, rows, form: { tokenizer } }: OpenConversations,
): Promise<Looked> {
  const { resolveSft, rowsInEpochs } = await import("../core/sft/mod.ts");
  const counts = rows.map(({ rowsIn }) => rowsIn(0));
  const facts: DataFacts = {
    vocab_size: tokenizer.vocabSize,
    epochTargets: counts.map((count) => count * given.sequence_length),
    heldOut: prepared.sources.map(({ val }) => val.tokens),
  };
  const rowsIn = (epochs: number) => rowsInEpochs(rows, epochs);
  return {
    facts,
    resolve: (sizes) =>
      resolveSft(given, { ...base.facts, rows: counts, rowsIn }, sizes) as unknown as PlannedConfig,
    notes: (resolved: Resolved<PlannedConfig>) =>
      sftNotes(given, resolved, { base, prepared, rows: counts }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
