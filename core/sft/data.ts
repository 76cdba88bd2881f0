/** Prepared conversations as what a run trains on. */

import { join, resolve } from "node:path";
import {
  type ConversationCursor,
  type ConversationRows,
  conversationRows,
  conversationsInOrder,
  countInOrder,
  nextConversations,
} from "../data/conversation_rows.ts";
import { type ConversationReader, openConversations } from "../data/conversation_store.ts";
import { type MixtureCursor, mixtureCursor } from "../data/mixture.ts";
import { exists, folderBeside, writeFileAtomic } from "../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../io/errors.ts";
import { tokenizerConfigName, tokenizerConfigText } from "../text/chat/mod.ts";
import { tokenizerFileName } from "../text/load.ts";
import type { Checkpoint } from "../train/checkpoint.ts";
import { fingerprintOf, requireSameData, tokensBySource } from "../train/data.ts";
import { sharesOf } from "../train/data_config.ts";
import { timelineOf } from "../train/timeline.ts";
import type { HeldOutData, TrainingData } from "../train/training_data.ts";
import { type ResolvedSft, rowLengths } from "./config.ts";
import {
  type ConversationForm,
  keyOf,
  prepareConversations,
  type Prepared,
  preparedFile,
  preparedSchema,
  type PrepareEvents,
  type PrepareJob,
  sourcesOf,
} from "./prepare.ts";

/** The folder of a run that has its conversations. */
const conversationsFolder = "conversations";

/** The conversations of a run, and what they are read by; close them with `using`. */
export interface OpenConversations extends AsyncDisposable {
  readonly prepared: Prepared;
  readonly form: ConversationForm;
  /** Whether they were there already. */
  readonly isFound: boolean;
  /** Of each source that is trained on, in order. */
  readonly rows: readonly ConversationRows[];
  /** Open files of a prepared source; undefined of a split that has none. */
  reader(source: number, split: "train" | "val"): ConversationReader;
  /** Moves them to a folder that is the run's, or becomes it before they are read again; they may be there. */
  moveTo(folder: string): Promise<void>;
}

/**
 * Those that a run has, if they are what the config asks for; else they are prepared, beside the run's folder until `moveTo`.
 * `isTrained`: others than those that it has cannot be.
 */
export async function openRunConversations(
  run: string,
  job: PrepareJob,
  events: PrepareEvents & { readonly isTrained: boolean },
): Promise<OpenConversations> {
  const folder = join(run, conversationsFolder);
  const there = await exists(join(folder, preparedFile)) ? await readPrepared(folder) : undefined;
  if (there && there.key === keyOf(job.config, job.form)) {
    return openPrepared(folder, run, there, job);
  }
  if (there && events.isTrained) {
    throw new UserError("what the run trains on cannot change: files, form or length of rows", {
      where: run,
      hint: "begin a new run for it, with --from this one",
      exitCode: exitCodes.usage,
    });
  }
  await using stack = new AsyncDisposableStack();
  const beside = stack.use(await folderBeside(await exists(run) ? folder : run));
  const prepared = await prepareConversations(beside.path, job, events);
  const open = stack.use(openPrepared(beside.path, run, prepared, job));
  const owned = stack.move();
  return { ...open, isFound: false, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function readPrepared(folder: string): Promise<Prepared> {
  const where = join(folder, preparedFile);
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(where));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(jsonFault(error), { where, exitCode: exitCodes.failed });
  }
  const parsed = preparedSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UserError("not an index of conversations that this version knows", {
    where,
    exitCode: exitCodes.failed,
  });
}

function openPrepared(
  folder: string,
  run: string,
  prepared: Prepared,
  { config, form }: Pick<PrepareJob, "config" | "form">,
): OpenConversations {
  let place = folder;
  let opened: OpenReaders | undefined = openAll(place, prepared); // says what is damaged
  const close = () => {
    opened?.[Symbol.dispose]();
    opened = undefined;
  };
  const reader: OpenConversations["reader"] = (source, split) =>
    (opened ??= openAll(place, prepared)).readers[source][split];
  const trained = sourcesOf(config.data).trained.length;
  const { data: { packing }, seed } = config, lengths = rowLengths(config);
  const rows = prepared.sources.slice(0, trained).map(({ train }, i) =>
    conversationRows(
      {
        count: train.conversations,
        lengthOf: (at) => reader(i, "train").lengthOf(at),
        countOf: (at) => reader(i, "train").countOf(at),
        read: (at) => reader(i, "train").read(at),
      },
      { packing, lengths, seed },
      i,
    )
  );
  return {
    prepared,
    form,
    isFound: true,
    rows,
    reader,
    async moveTo(target) {
      if (place === join(run, conversationsFolder)) return;
      close(); // a folder with open files is not renamed everywhere, and `target` may be renamed, too
      const inside = join(target, conversationsFolder);
      if (await exists(inside)) await Deno.remove(inside, { recursive: true });
      await Deno.rename(place, inside);
      place = join(run, conversationsFolder);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(close()),
  };
}

type OpenReaders = ReturnType<typeof openAll>;

function openAll(folder: string, { sources }: Prepared) {
  using stack = new DisposableStack();
  const readers = sources.map(({ train, val }) => ({
    train: stack.use(openConversations(folder, train)),
    val: stack.use(openConversations(folder, val)),
  }));
  const owned = stack.move();
  return { readers, [Symbol.dispose]: () => owned.dispose() };
}

/** Rows of the first so many epochs of all sources. */
export function rowsInEpochs(sources: readonly ConversationRows[], epochs: number): number {
  const of = ({ rowsIn }: ConversationRows) => {
    let rows = 0;
    for (let epoch = 0; epoch < epochs; epoch++) {
      rows += rowsIn(epoch) * Math.min(1, epochs - epoch);
    }
    return rows;
  };
  return sources.reduce((sum, source) => sum + of(source), 0);
}

/** What a resolved config trains on. */
export function conversationData(open: OpenConversations, config: ResolvedSft): TrainingData {
  const { prepared, form: { tokenizer, template, beginning }, rows } = open, { data } = config;
  const isMixture = data.sources !== undefined, { packing } = data;
  const sharesAt = sharesOf(data, timelineOf(config));
  const trained = prepared.sources.slice(0, rows.length);
  const hashes = trained.map(({ path, train: { sha256 } }) => ({ path, sha256 }));
  const padding = tokenizer.endOfText ?? 0;
  const source = { sources: rows, sharesAt, padding };
  return {
    tokenizer,
    vocabSize: tokenizer.vocabSize,
    beginning,
    template,
    first: isMixture ? mixtureCursor(rows.map(({ first }) => first)) : rows[0].first,
    next: (cursor, place) =>
      nextConversations(
        source,
        cursor as ConversationCursor | MixtureCursor<ConversationCursor>,
        place,
      ),
    isMixture,
    tokensBySource: (cursor) => tokensBySource(trained, cursor),
    heldOut: heldOutOf(open, packing, padding),
    fingerprint: fingerprintOf(hashes, isMixture),
    record: {
      sources: prepared.sources.map(({ path, train, val, counts }) => ({
        path,
        absolute_path: resolve(path),
        sha256: train.sha256,
        trained: train.conversations,
        held_out: val.conversations,
        ...counts,
      })),
    },
    async place(folder) {
      await writeFileAtomic(join(folder, tokenizerFileName), tokenizer.file);
      const text = tokenizerConfigText(template, tokenizer);
      await writeFileAtomic(join(folder, tokenizerConfigName), text);
      await open.moveTo(folder);
    },
    requireSame(checkpoint) {
      const named = hashes.map(({ path, sha256 }) => ({ where: path, hash: sha256 }));
      requireSameData(checkpoint, named, isMixture);
      requireSameRows(checkpoint, config);
    },
    requireRows() {}, // a source of which nothing is left was refused when it was prepared
  };
}

/** What the sources hold out; where files are named for that, theirs. */
function heldOutOf(
  { prepared: { sources }, reader }: OpenConversations,
  packing: ResolvedSft["data"]["packing"],
  padding: number,
): HeldOutData[] {
  return sources.flatMap(({ name, val }, i) =>
    val.conversations === 0 ? [] : [{
      name,
      batches: (shapes, maxTargets) =>
        conversationsInOrder(reader(i, "val"), { packing, shapes, padding }, maxTargets),
      count: (maxTargets) =>
        maxTargets === Infinity ? val.weight : countInOrder(reader(i, "val"), maxTargets),
      size: val,
    }]
  );
}

/** A cursor counts rows, or conversations of each length. */
function requireSameRows({ state: { cursor } }: Checkpoint, config: ResolvedSft): void {
  const [first] = "sources" in cursor ? cursor.sources.map(({ cursor }) => cursor) : [cursor];
  const before = first.packing === "packed"
    ? [first.length]
    : first.packing === "buckets"
    ? first.lengths
    : [];
  const isSame = first.packing === config.data.packing &&
    before.join() === rowLengths(config).join();
  if (isSame) return;
  throw new UserError(
    `the run has ${first.packing} rows of ${before.join(", ")} tokens`,
    { where: "data.packing", hint: "rows cannot change within a run" },
  );
}
