/**
 * Batches of blocks worked on by several threads. This module is also the worker's program: a worker
 * loads the module that starts it, from source as from a bundle (where the whole program is evaluated
 * again, so nothing at top level may have effects in a worker).
 *
 * @module
 */
import { messageOf } from "../io/errors.ts";
import { parseTokenizer } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Block, sizeOf } from "./blocks.ts";
import { batchCounter, type CountedBatch } from "./count.ts";
import type { ReadOptions } from "./documents.ts";
import { batchEncoder, type EncodedBatch, type EncodeSettings } from "./encode.ts";
import { inOrder, readAhead } from "./in_order.ts";

/** The name of the workers, by which a program knows that it is one. */
const NAME = "quern-data";

/** What is done with each batch, and what comes of it. */
export interface Tasks {
  encode: { settings: EncodeSettings & { readonly tokenizer: Tokenizer }; result: EncodedBatch };
  count: {
    settings: { readonly reading: ReadOptions; readonly what: "pieces" | "characters" };
    result: CountedBatch;
  };
}
type Kind = keyof Tasks;
type Work<K extends Kind> = (batch: readonly Block[]) => Tasks[K]["result"];

const makers: { [K in Kind]: (settings: Tasks[K]["settings"]) => Work<K> } = {
  encode: ({ tokenizer, ...settings }) => batchEncoder(tokenizer, settings),
  count: batchCounter,
};

/** Who works, and until when. */
export interface Threads {
  /** At most; one is the calling thread. */
  readonly threads: number;
  readonly signal?: AbortSignal | undefined;
  /** Less than this is done before workers have started. */
  readonly startBytes: number;
}

/** A batch and its result. */
export interface Done<K extends Kind> {
  readonly item: readonly Block[];
  readonly result: Tasks[K]["result"];
}

/** Batches under way or finished, for each worker, and their bytes. */
const perWorker = { batches: 3, bytes: 2 ** 23 };

const sizeOfBatch = (batch: readonly Block[]) => batch.reduce((n, block) => n + sizeOf(block), 0);

/** Works on all batches; their results come in order and do not depend on the number of threads. */
export async function* workOn<K extends Kind>(
  kind: K,
  settings: Tasks[K]["settings"],
  batches: AsyncIterable<readonly Block[]>,
  { threads, signal, startBytes }: Threads,
): AsyncGenerator<Done<K>> {
  const sizeOf = sizeOfBatch;
  // every worker reads the tokenizer's file, about as fast as it encodes text
  const file = "tokenizer" in settings && startBytes > 0 ? settings.tokenizer.file.length : 0;
  const ahead = threads === 1
    ? { items: batches, isAll: true }
    : await readAhead(batches, { bytes: startBytes + file, sizeOf });
  if (ahead.isAll) {
    const work = makers[kind](settings);
    for await (const item of ahead.items) {
      signal?.throwIfAborted();
      yield { item, result: work(item) };
    }
    return;
  }
  using workers = startWorkers(kind, settings, { threads, signal });
  const backlog = { items: perWorker.batches * threads, bytes: perWorker.bytes * threads, sizeOf };
  yield* inOrder(ahead.items, workers.work, backlog);
}

/** Settings as they reach a worker: a tokenizer goes as its file. */
type Message =
  | { readonly kind: Kind; readonly settings: object; readonly tokenizer: string | undefined }
  | { readonly batch: readonly Block[] };
/** A worker's answer to a batch. */
type Answer<K extends Kind> = { readonly result: Tasks[K]["result"] } | { readonly error: string };

function startWorkers<K extends Kind>(
  kind: K,
  settings: Tasks[K]["settings"],
  { threads, signal }: Pick<Threads, "threads" | "signal">,
) {
  const { tokenizer, ...plain } = { tokenizer: undefined, ...settings };
  const start: Message = {
    kind,
    settings: plain,
    tokenizer: (tokenizer as Tokenizer | undefined)?.file,
  };
  type Waiting = PromiseWithResolvers<Tasks[K]["result"]>;
  let failure: { reason: unknown } | undefined;
  const crew = Array.from({ length: threads }, () => {
    const worker = new Worker(import.meta.url, { type: "module", name: NAME });
    const waiting: Waiting[] = []; // answers come in the order of the batches
    worker.onmessage = ({ data }: MessageEvent<Answer<K>>) => {
      const { resolve, reject } = waiting.shift()!;
      if ("error" in data) reject(new Error(`a worker failed: ${data.error}`));
      else resolve(data.result);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      fail(new Error(`a worker failed: ${event.message}`));
    };
    worker.postMessage(start);
    return { worker, waiting };
  });
  /** Whoever waits for a batch hears of it; a race of promises would keep every result. */
  function fail(reason: unknown): void {
    failure = { reason };
    for (const { waiting } of crew) waiting.forEach(({ reject }) => reject(reason));
  }
  const stop = () => fail(signal?.reason);
  signal?.addEventListener("abort", stop);
  if (signal?.aborted) stop();
  return {
    work(batch: readonly Block[]): Promise<Tasks[K]["result"]> {
      if (failure !== undefined) return Promise.reject(failure.reason);
      const free = crew.reduce((a, b) => b.waiting.length < a.waiting.length ? b : a);
      const answer: Waiting = Promise.withResolvers();
      free.waiting.push(answer);
      free.worker.postMessage({ batch } satisfies Message, buffersOf(batch));
      return answer.promise;
    },
    [Symbol.dispose]() {
      signal?.removeEventListener("abort", stop);
      for (const { worker } of crew) worker.terminate();
    },
  };
}

function buffersOf(batch: readonly Block[]): ArrayBuffer[] {
  return batch.flatMap((block) => "bytes" in block ? [block.bytes.buffer] : []);
}

// ---------------------------------------------------------------------------------------------------- in a worker

interface WorkerScope {
  readonly name: string;
  onmessage: ((event: MessageEvent<Message>) => void) | null;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

/** `import.meta.main` is true in a worker as well, so the name decides. */
function isDataWorker(): boolean {
  return "DedicatedWorkerGlobalScope" in globalThis &&
    (globalThis as unknown as WorkerScope).name === NAME;
}

function serve(scope: WorkerScope): void {
  let work: Promise<Work<Kind>>;
  const start = async <K extends Kind>(kind: K, settings: object, file: string | undefined) => {
    const tokenizer = file === undefined ? {} : { tokenizer: await parseTokenizer(file, "") };
    return makers[kind]({ ...settings, ...tokenizer } as Tasks[K]["settings"]);
  };
  const answer = async (batch: readonly Block[]) => {
    try {
      const result = (await work)(batch);
      const views = Object.values(result).filter((value) => ArrayBuffer.isView(value));
      scope.postMessage({ result }, views.map(({ buffer }) => buffer as ArrayBuffer));
    } catch (error) {
      scope.postMessage({ error: messageOf(error) }, []);
    }
  };
  scope.onmessage = ({ data }) => {
    if ("batch" in data) answer(data.batch);
    else work = start(data.kind, data.settings, data.tokenizer);
  };
}

if (isDataWorker()) serve(globalThis as unknown as WorkerScope);
