/**
 * Workers that walk a plan together. This module is also the worker's program: a worker loads the
 * module that starts it, from source as from a bundle (where the whole program is evaluated again,
 * so nothing at top level may have effects in a worker).
 *
 * Between runs workers sleep on the order word. Messages (a new plan) cannot reach a worker that
 * waits, so an order sends it to its event loop first.
 */

import { addressOf, type Blas, openBlas } from "./blas.ts";
import {
  controlWords,
  DONE,
  ERROR,
  MAIL,
  MAILS,
  ORDER,
  order,
  PROGRAM,
  QUIT,
  readError,
  RUN,
  TIMES,
  waitUntil,
  walkAll,
} from "./barrier.ts";
import { makeWalk, type Program, type Walk } from "./program.ts";

/**
 * For how many milliseconds the main thread goes alone when waiting took longer than the others
 * saved.
 */
const SHORTEST_PAUSE = 200, LONGEST_PAUSE = 5000;
const NAME = "quern-pool";

type Message =
  | {
    readonly kind: "start";
    readonly memory: WebAssembly.Memory;
    readonly member: number;
    readonly members: number;
    readonly blas: string | undefined;
  }
  | { readonly kind: "program"; readonly program: Program; readonly scratch: number }
  | { readonly kind: "forget"; readonly id: number };

/** A worker's answer to a message that wants one: what went wrong, if something did. */
type Answer = { readonly error?: string };

export interface Pool extends AsyncDisposable {
  readonly members: number;
  /** Makes a program known to all; `walk` is the main thread's own share. */
  load(program: Program, scratchOf: (member: number) => number): Promise<void>;
  forget(id: number): void;
  /**
   * Walks the program `times` times; returns when all members are done. Throws what a member threw.
   */
  run(program: Program, walk: Walk, times: number): void;
}

/** Starts `members - 1` workers (40 ms); the caller is member 0. */
export async function startPool(
  memory: WebAssembly.Memory,
  members: number,
  blas: Blas | undefined,
): Promise<Pool> {
  const words = controlWords(memory);
  const workers = Array.from(
    { length: members - 1 },
    () => new Worker(import.meta.url, { type: "module", name: NAME }),
  );
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {}); // reported by whoever waits for the pool
  // Workers answer in the order of their messages; several may be under way.
  const waiting = workers.map(() => [] as ((answer: Answer) => void)[]);
  workers.forEach((worker, i) => {
    worker.onmessage = ({ data }: MessageEvent<Answer>) => waiting[i].shift()!(data);
    worker.onerror = (event) => {
      event.preventDefault();
      failed.reject(new Error(`a worker of the cpu device failed: ${event.message}`));
    };
  });
  const answers = async () => {
    const all = waiting.map((queue) => new Promise<Answer>((resolve) => queue.push(resolve)));
    const error = (await Promise.race([Promise.all(all), failed.promise])).find(({ error }) =>
      error
    );
    if (error) throw new Error(`a worker of the cpu device failed: ${error.error}`);
  };
  // Counted before they are sent: a worker goes back to its event loop until it has had them all.
  const send = (make: (member: number) => Message) => {
    Atomics.add(words, MAILS, 1);
    order(words, MAIL);
    workers.forEach((worker, i) => worker.postMessage(make(i + 1)));
  };
  const post = async (make: (member: number) => Message) => {
    const answered = answers();
    send(make);
    await answered;
  };
  const terminate = () => workers.forEach((worker) => worker.terminate());
  try {
    await post((member) => ({ kind: "start", memory, member, members, blas: blas?.path }));
  } catch (error) {
    terminate();
    throw error;
  }

  // When to try together again, and for how long the next refusal holds.
  let aloneUntil = 0, pause = SHORTEST_PAUSE, strikes = 0;
  const notice = (waited: number, whole: number) => {
    if (waited <= (members - 1) * (whole - waited)) {
      pause = SHORTEST_PAUSE;
      strikes = 0;
    } else if (++strikes > 1) { // once may be a worker that had to be woken
      aloneUntil = performance.now() + pause;
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  };

  return {
    members,
    async load(program, scratchOf) {
      if (workers.length === 0) return;
      await post((member) => ({ kind: "program", program, scratch: scratchOf(member) }));
    },
    forget(id) {
      if (workers.length === 0) return;
      send(() => ({ kind: "forget", id }));
    },
    run(program, walk, times) {
      // Shares do not change a result, only a BLAS' rows do; so where others hold the processors
      // the main thread goes alone.
      const mayGoAlone = members > 1 && !program.entries.some(({ kind }) => kind === "gemm");
      if (mayGoAlone && performance.now() < aloneUntil) {
        walkAlone(program, walk, times);
        return;
      }
      Atomics.store(words, PROGRAM, program.id);
      Atomics.store(words, TIMES, times);
      Atomics.store(words, DONE, 0);
      Atomics.store(words, ERROR, 0);
      order(words, RUN);
      const began = performance.now();
      const waited = walkAll(memory, program, walk, times, 0, members);
      // The last barrier has everybody's work behind it; this wait is for the workers to be back at
      // their command word.
      waitUntil(words, DONE, (done) => done === members - 1);
      if (mayGoAlone) notice(waited, performance.now() - began);
      const error = readError(memory);
      if (error !== undefined) throw new Error(`the cpu device failed: ${error}`);
    },
    async [Symbol.asyncDispose]() {
      // A worker that is told to quit closes itself; terminating one that waits would hang the
      // process.
      const closed = answers();
      order(words, QUIT);
      await closed.catch(() => {}); // whoever used the pool was told
      terminate();
    },
  };
}

function walkAlone({ entries }: Program, walk: Walk, times: number): void {
  for (let time = 0; time < times; time++) for (const entry of entries) walk(entry, 0, 1);
}

// ---------------------------------------------------------------------------------------------------- in a worker

interface WorkerScope {
  readonly name: string;
  onmessage: ((event: MessageEvent<Message>) => void) | null;
  postMessage(message: Answer): void;
  close(): void;
}

/** `import.meta.main` is true in a worker as well, so the name decides. */
export function isPoolWorker(): boolean {
  return "DedicatedWorkerGlobalScope" in globalThis &&
    (globalThis as unknown as WorkerScope).name === NAME;
}

function serve(scope: WorkerScope): void {
  let memory: WebAssembly.Memory,
    words: Int32Array,
    member = 0,
    members = 1,
    blas: Blas | undefined,
    ordered = 0,
    received = 0;
  const walks = new Map<number, { program: Program; walk: Walk }>();

  /** Runs until mail is due or the end is announced. */
  const work = () => {
    for (;;) {
      if (received < Atomics.load(words, MAILS)) return;
      ordered = waitUntil(words, ORDER, (value) => value !== ordered);
      const what = ordered & 3;
      if (what === MAIL) continue;
      if (what === QUIT) {
        scope.postMessage({});
        return scope.close();
      }
      const { program, walk } = walks.get(Atomics.load(words, PROGRAM))!;
      walkAll(memory, program, walk, Atomics.load(words, TIMES), member, members);
      Atomics.add(words, DONE, 1);
      Atomics.notify(words, DONE);
    }
  };

  const take = (message: Message) => {
    if (message.kind === "start") {
      ({ memory, member, members } = message);
      words = controlWords(memory);
      ordered = Atomics.load(words, ORDER);
      if (message.blas) blas = openBlas(message.blas);
    } else if (message.kind === "program") {
      const { program, scratch } = message;
      const base = blas ? addressOf(memory.buffer as unknown as SharedArrayBuffer) : 0n;
      walks.set(program.id, {
        program,
        walk: makeWalk({ program, memory, scratch, gemm: blas && gemmWith(blas, base) }),
      });
    } else walks.delete(message.id);
  };

  scope.onmessage = ({ data }) => {
    received++;
    // A worker that died here would be waited for without end.
    let answer: Answer = {};
    try {
      take(data);
    } catch (error) {
      answer = { error: error instanceof Error ? error.message : String(error) };
    }
    if (data.kind !== "forget") scope.postMessage(answer);
    work();
  };
}

/** A gemm entry's rows, by a BLAS that works on absolute addresses. */
export function gemmWith(
  blas: Blas,
  base: bigint,
): NonNullable<Parameters<typeof makeWalk>[0]["gemm"]> {
  return ({ a, b, c, ...entry }, [begin, end]) =>
    blas.gemm({
      ...entry,
      m: end - begin,
      a: base + BigInt(a + 4 * begin * (entry.transA ? 1 : entry.lda)),
      b: base + BigInt(b),
      c: base + BigInt(c + 4 * begin * entry.ldc),
    });
}

if (isPoolWorker()) serve(globalThis as unknown as WorkerScope);
