/**
 * Requests to the hub: the token goes to the hub alone, silence and refusals for the moment are tried
 * again, everything else is said in words.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { type Refusal, refusalOf } from "./refusals.ts";
import type { Repo } from "./reference.ts";
import type { Token } from "./settings.ts";

/** The hub as one process talks to it. */
export interface Hub {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: Token | undefined;
  /** The variable that forbids the network. */
  readonly offlineBy: string | undefined;
  /** Program and version, told to the server. */
  readonly agent: string;
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Hears of every failure that is tried again. */
  readonly onRetry: (retry: Retry) => void;
}

/** How long a slow or failing server is borne with. */
export interface Patience {
  /** A server that sends nothing for so long is given up. */
  readonly stallMs: number;
  /** The first wait; each further one is twice as long, unless the server names one. */
  readonly waitMs: number;
  /** Tries without anything new before the failure is final. */
  readonly attempts: number;
}

export interface Retry {
  /** What was asked for. */
  readonly what: string;
  readonly reason: string;
  readonly waitMs: number;
}

/** A wait longer than this is left to the user. */
const longestWaitMs = 300_000;

/** A failure that may be over at the next try. */
class TransientError extends Error {
  constructor(
    message: string,
    readonly kind: "network" | "status" | "body",
    readonly afterMs?: number,
  ) {
    super(message);
  }
}

/** A body that is not what was announced; a fresh try may bring the right one. */
export function brokenBody(message: string): Error {
  return new TransientError(message, "body");
}

/** Whether the error means that no server could be spoken to. */
export function isUnreachable(error: unknown): boolean {
  const cause = error instanceof UserError ? error.cause : undefined;
  return cause instanceof TransientError && cause.kind === "network";
}

/** What one request is about. */
export interface Request {
  readonly url: string;
  readonly headers?: Record<string, string>;
  readonly repo: Repo;
}

/**
 * An answer with a good status, or 416 for a range that the file does not have. Reading it, too, is given up when
 * nothing comes.
 */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The address that it came from, after all redirections. */
  readonly url: string;
  chunks(): AsyncGenerator<Uint8Array>;
}

/** Asks once, and hands the answer to `use`. */
export async function ask<T>(
  hub: Hub,
  request: Request,
  use: (answer: Answer) => Promise<T>,
): Promise<T> {
  if (hub.offlineBy !== undefined) {
    throw new UserError(`${hub.offlineBy} forbids the network`, {
      where: request.url,
      exitCode: exitCodes.failed,
    });
  }
  using watch = watchFor(hub);
  const { response, url } = await follow(hub, request, watch);
  try {
    if (!response.ok && response.status !== 416) {
      const isHub = new URL(url).origin === new URL(hub.endpoint).origin;
      const refusal = refusalOf(response, { hub, repo: request.repo, isHub });
      throw refusal instanceof Error ? refusal : transient(refusal);
    }
    const { status, headers } = response;
    return await use({ status, headers, url, chunks: () => chunksOf(response, watch) });
  } finally {
    await response.body?.cancel().catch(() => {}); // it may have failed already
  }
}

/** What makes some work more or less persistent than the hub's patience says. */
export interface Persistence {
  /** Whether the last try brought something; then the tries are counted anew. */
  readonly hasNew?: () => boolean;
  /** How often a server that cannot be reached is tried. */
  readonly networkAttempts?: number;
}

/** Tries until it works, the tries are used up, or the failure is one that stays. */
export async function persistently<T>(
  hub: Hub,
  what: string,
  attempt: () => Promise<T>,
  { hasNew = () => false, networkAttempts = hub.patience.attempts }: Persistence = {},
): Promise<T> {
  for (let failures = 1;; failures++) {
    try {
      return await attempt();
    } catch (error) {
      hub.signal.throwIfAborted();
      if (!(error instanceof TransientError)) throw error;
      if (hasNew()) failures = 1; // a connection that breaks again and again still gets on
      const { waitMs } = hub.patience;
      const attempts = error.kind === "network" ? networkAttempts : hub.patience.attempts;
      const backoff = Math.min(30_000, waitMs * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
      const wait = error.afterMs ?? backoff;
      if (failures >= attempts || wait > longestWaitMs) throw givenUp(hub, what, error, failures);
      hub.onRetry({ what, reason: error.message, waitMs: Math.round(wait) });
      await sleep(wait, undefined, { signal: hub.signal }).catch(() => hub.signal.throwIfAborted());
    }
  }
}

/** Reads an answer as text. */
export async function textOf(answer: Answer): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of answer.chunks()) text += decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}

/** Follows redirections by hand: what a CDN is sent must not hold the token. */
async function follow(hub: Hub, { url: first, headers }: Request, watch: Watch) {
  let url = first;
  for (let hops = 0; hops <= 10; hops++) {
    const isHub = new URL(url).origin === new URL(hub.endpoint).origin;
    const response = await watch.guard(() =>
      fetch(url, {
        headers: headersFor(hub, isHub, headers),
        redirect: "manual",
        signal: watch.signal,
      })
    );
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) {
      return { response, url };
    }
    await response.body?.cancel();
    const next = new URL(location, url);
    if (
      !/^https?:$/.test(next.protocol) || (url.startsWith("https:") && next.protocol !== "https:")
    ) {
      throw new UserError(`it leads to ${next.protocol}//${next.host}, which is not safe`, {
        where: first,
        exitCode: exitCodes.failed,
      });
    }
    url = next.href;
  }
  throw new UserError("it leads from address to address, without end", {
    where: first,
    exitCode: exitCodes.failed,
  });
}

function headersFor(hub: Hub, isHub: boolean, more: Record<string, string> = {}): Headers {
  const headers = new Headers(more);
  headers.set("accept-encoding", "identity"); // ranges and sizes are those of the file
  headers.set("user-agent", hub.agent);
  if (isHub && hub.token) headers.set("authorization", `Bearer ${hub.token.value}`);
  return headers;
}

async function* chunksOf({ body }: Response, watch: Watch): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await watch.guard(() => reader.read());
    if (done) return;
    yield value;
  }
}

/** Sees to it that waiting for the network ends. */
interface Watch extends Disposable {
  readonly signal: AbortSignal;
  /** Waits for one step of the network; its failure, or its silence, is one that may pass. */
  guard<T>(step: () => Promise<T>): Promise<T>;
}

function watchFor(hub: Hub): Watch {
  const stall = new AbortController(), signal = AbortSignal.any([hub.signal, stall.signal]);
  const { stallMs } = hub.patience;
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    signal,
    async guard(step) {
      clearTimeout(timer); // only the network's time counts, not what a slow disk takes
      timer = setTimeout(() => stall.abort(), stallMs);
      try {
        return await step();
      } catch (error) {
        hub.signal.throwIfAborted();
        const reason = stall.signal.aborted
          ? `nothing came for ${stallMs / 1000} s`
          : networkReason(error);
        throw new TransientError(reason, "network");
      } finally {
        clearTimeout(timer);
      }
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

/** The innermost reason that the runtime gives, without the address, which may be signed. */
function networkReason(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const text = messageOf(cause ?? error).replace(/\s*for url \(.*?\)/, "");
  return text.match(/(?:dns error|tcp connect error|connection error|tls[^:]*): .*$/i)?.[0] ?? text;
}

function transient({ message, afterMs }: Exclude<Refusal, Error>): TransientError {
  return new TransientError(message, "status", afterMs);
}

function givenUp(hub: Hub, what: string, error: TransientError, failures: number): UserError {
  const { host } = new URL(hub.endpoint);
  const times = failures === 1 ? "" : ` (${failures} tries)`;
  const parts = { where: what, exitCode: exitCodes.failed, cause: error };
  if (error.kind === "network") {
    return new UserError(`${host} cannot be reached: ${error.message}${times}`, {
      ...parts,
      hint: "check the network, and HF_ENDPOINT if the hub is elsewhere; what came before is kept",
    });
  }
  const when = error.afterMs === undefined
    ? "later"
    : `in ${Math.ceil(error.afterMs / 60_000)} min`;
  return new UserError(`${error.message}${times}`, {
    ...parts,
    hint: `try again ${when}: the same command goes on from what is here`,
  });
}
