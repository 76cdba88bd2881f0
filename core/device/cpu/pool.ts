/**
 * Workers that walk a plan together. This module is also the worker's program: a worker loads the module that starts it, from
 * source as from a bundle (where the whole program is evaluated again, so nothing at top level may have effects in a worker).
 *
 * Between jobs members meet at a barrier: they spin for up to half a millisecond, then sleep. Between runs workers sleep
 * on the command word. Messages (a new plan) cannot reach a worker that waits, so `mail` sends it to its event loop first.
 */

import { addressOf, type Blas, openBlas } from "./blas.ts";
import { makeWalk, meetingsOf, type Program, type Walk } from "./program.ts";

/** Words of the control block. */
const SEQUENCE = 0,
  COMMAND = 1,
  PROGRAM = 2,
  TIMES = 3,
  DONE = 4,
  ERROR = 5,
  ARRIVED = 6,
  GENERATION = 7,
  SLEEPERS = 8,
  MAILS = 9;
const ERROR_TEXT = 1024, ERROR_BYTES = 1024;
const RUN = 1, MAIL = 2, QUIT = 3;
/** Loads before a waiting member goes to sleep: about half a millisecond. */
const SPIN = 20_000, BRIEF = 200;
/** For how many milliseconds the main thread goes alone when waiting took longer than the others saved. */
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

export interface Pool extends AsyncDisposable {
  readonly members: number;
  /** Makes a program known to all; `walk` is the main thread's own share. */
  load(program: Program, scratchOf: (member: number) => number): Promise<void>;
  forget(id: number): void;
  /** Walks the program `times` times; returns when all members are done. Throws what a member threw. */
  run(program: Program, walk: Walk, times: number): void;
}

/** Starts `members - 1` workers (40 ms); the caller is member 0. */
export async function startPool(
  memory: WebAssembly.Memory,
  members: number,
  blas: Blas | undefined,
): Promise<Pool> {
  const words = new Int32Array(memory.buffer, 0, 16);
  const workers = Array.from(
    { length: members - 1 },
    () => new Worker(import.meta.url, { type: "module", name: NAME }),
  );
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {}); // reported by whoever waits for the pool
  for (const worker of workers) {
    worker.onerror = (event) => {
      event.preventDefault();
      failed.reject(new Error(`a worker of the cpu device failed: ${event.message}`));
    };
  }
  const command = (code: number) => {
    Atomics.store(words, COMMAND, code);
    Atomics.add(words, SEQUENCE, 1);
    Atomics.notify(words, SEQUENCE);
  };
  // Counted before they are sent: a worker goes back to its event loop until it has had them all.
  const announce = () => {
    Atomics.add(words, MAILS, 1);
    command(MAIL);
  };
  const post = async (make: (member: number) => Message) => {
    announce();
    const answers = workers.map((worker, i) => {
      const answer = Promise.withResolvers<void>();
      worker.onmessage = () => answer.resolve();
      worker.postMessage(make(i + 1));
      return answer.promise;
    });
    await Promise.race([Promise.all(answers), failed.promise]);
  };
  await post((member) => ({ kind: "start", memory, member, members, blas: blas?.path }));

  // When to try together again, and for how long the next refusal holds.
  let aloneUntil = 0, pause = SHORTEST_PAUSE;
  const notice = (waited: number, whole: number) => {
    if (waited > (members - 1) * (whole - waited)) {
      aloneUntil = performance.now() + pause;
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    } else pause = SHORTEST_PAUSE;
  };

  return {
    members,
    async load(program, scratchOf) {
      if (workers.length === 0) return;
      await post((member) => ({ kind: "program", program, scratch: scratchOf(member) }));
    },
    forget(id) {
      if (workers.length === 0) return;
      announce();
      for (const worker of workers) worker.postMessage({ kind: "forget", id } satisfies Message);
    },
    run(program, walk, times) {
      // Shares do not change a result, only a BLAS' rows do; so where others hold the processors the main thread goes alone.
      const mayGoAlone = members > 1 && !program.entries.some(({ kind }) => kind === "gemm");
      if (mayGoAlone && performance.now() < aloneUntil) {
        walkAlone(program, walk, times);
        return;
      }
      Atomics.store(words, PROGRAM, program.id);
      Atomics.store(words, TIMES, times);
      Atomics.store(words, DONE, 0);
      Atomics.store(words, ERROR, 0);
      command(RUN);
      const began = performance.now();
      const waited = walkAll(words, memory, program, walk, times, 0, members);
      // The last barrier has everybody's work behind it; this wait is for the workers to be back at their command word.
      waitUntil(words, DONE, (done) => done === members - 1);
      if (mayGoAlone) notice(waited, performance.now() - began);
      if (Atomics.load(words, ERROR) !== 0) {
        throw new Error(`the cpu device failed: ${readError(memory)}`);
      }
    },
    async [Symbol.asyncDispose]() {
      command(QUIT);
      // A worker that is told to quit closes itself; terminating one that waits would hang the process.
      await Promise.all(workers.map((worker) => {
        const closed = Promise.withResolvers<void>();
        worker.onmessage = () => closed.resolve();
        return closed.promise;
      }));
      for (const worker of workers) worker.terminate();
    },
  };
}

function walkAlone({ entries }: Program, walk: Walk, times: number): void {
  for (let time = 0; time < times; time++) for (const entry of entries) walk(entry, 0, 1);
}

/**
 * All entries, `times` times, meeting where it matters; returns the milliseconds spent waiting for others. After an error the member only keeps the
 * others company.
 */
function walkAll(
  words: Int32Array,
  memory: WebAssembly.Memory,
  { entries }: Program,
  walk: Walk,
  times: number,
  member: number,
  members: number,
): number {
  let waited = 0;
  const meetings = members > 1 ? meetingsOf(entries) : [];
  for (let time = 0; time < times; time++) {
    for (let i = 0; i < entries.length; i++) {
      if (Atomics.load(words, ERROR) === 0) {
        try {
          walk(entries[i], member, members);
        } catch (error) {
          writeError(memory, error);
          Atomics.store(words, ERROR, 1);
        }
      }
      if (meetings[i]) waited += barrier(words, members);
    }
  }
  return waited;
}

/** Returns the milliseconds waited; waits too short to be worth a look at the clock count as none. */
function barrier(words: Int32Array, members: number): number {
  const generation = Atomics.load(words, GENERATION);
  if (Atomics.add(words, ARRIVED, 1) === members - 1) {
    Atomics.store(words, ARRIVED, 0);
    Atomics.add(words, GENERATION, 1);
    if (Atomics.load(words, SLEEPERS) > 0) Atomics.notify(words, GENERATION);
    return 0;
  }
  for (let i = 0; i < BRIEF; i++) if (Atomics.load(words, GENERATION) !== generation) return 0;
  const began = performance.now();
  for (let i = 0; i < SPIN; i++) {
    if (Atomics.load(words, GENERATION) !== generation) return performance.now() - began;
  }
  Atomics.add(words, SLEEPERS, 1);
  while (Atomics.load(words, GENERATION) === generation) {
    Atomics.wait(words, GENERATION, generation, 1000);
  }
  Atomics.sub(words, SLEEPERS, 1);
  return performance.now() - began;
}

function waitUntil(words: Int32Array, at: number, holds: (value: number) => boolean): number {
  for (let i = 0; i < SPIN; i++) {
    const value = Atomics.load(words, at);
    if (holds(value)) return value;
  }
  for (;;) {
    const value = Atomics.load(words, at);
    if (holds(value)) return value;
    Atomics.wait(words, at, value, 1000);
  }
}

function writeError(memory: WebAssembly.Memory, error: unknown): void {
  const text = new TextEncoder().encode(error instanceof Error ? error.message : String(error))
    .subarray(0, ERROR_BYTES - 1);
  const bytes = new Uint8Array(memory.buffer, ERROR_TEXT, ERROR_BYTES);
  bytes.fill(0);
  bytes.set(text);
}

function readError(memory: WebAssembly.Memory): string {
  const bytes = new Uint8Array(memory.buffer, ERROR_TEXT, ERROR_BYTES).slice();
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

// ---------------------------------------------------------------------------------------------------- in a worker

interface WorkerScope {
  readonly name: string;
  onmessage: ((event: MessageEvent<Message>) => void) | null;
  postMessage(message: unknown): void;
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
    sequence = 0,
    received = 0;
  const walks = new Map<number, { program: Program; walk: Walk }>();

  /** Runs until mail is due or the end is announced. */
  const work = () => {
    for (;;) {
      if (received < Atomics.load(words, MAILS)) return;
      sequence = waitUntil(words, SEQUENCE, (value) => value !== sequence);
      const command = Atomics.load(words, COMMAND);
      if (command === MAIL) continue;
      if (command === QUIT) {
        scope.postMessage("closed");
        return scope.close();
      }
      const known = walks.get(Atomics.load(words, PROGRAM))!;
      walkAll(
        words,
        memory,
        known.program,
        known.walk,
        Atomics.load(words, TIMES),
        member,
        members,
      );
      Atomics.add(words, DONE, 1);
      Atomics.notify(words, DONE);
    }
  };

  scope.onmessage = ({ data }) => {
    received++;
    if (data.kind === "start") {
      ({ memory, member, members } = data);
      words = new Int32Array(memory.buffer, 0, 16);
      sequence = Atomics.load(words, SEQUENCE);
      if (data.blas) blas = openBlas(data.blas);
    } else if (data.kind === "program") {
      const { program, scratch } = data;
      const base = blas ? addressOf(memory.buffer as unknown as SharedArrayBuffer) : 0n;
      walks.set(program.id, {
        program,
        walk: makeWalk({ program, memory, scratch, gemm: blas && gemmWith(blas, base) }),
      });
    } else walks.delete(data.id);
    if (data.kind !== "forget") scope.postMessage("ready");
    work();
  };
}

/** A gemm entry's rows, by a BLAS that works on absolute addresses. */
export function gemmWith(
  blas: Blas,
  base: bigint,
): NonNullable<Parameters<typeof makeWalk>[0]["gemm"]> {
  return ({ transA, transB, n, k, accumulate, a, lda, b, ldb, c, ldc }, [begin, end]) =>
    blas.gemm(
      transA,
      transB,
      end - begin,
      n,
      k,
      base + BigInt(a + 4 * begin * (transA ? 1 : lda)),
      lda,
      base + BigInt(b),
      ldb,
      accumulate,
      base + BigInt(c + 4 * begin * ldc),
      ldc,
    );
}

if (isPoolWorker()) serve(globalThis as unknown as WorkerScope);
