/** Reports of runs while they train, served to browsers on this machine. */

import { messageOf, UserError } from "../io/errors.ts";
import type { XAxis } from "./metric_charts.ts";
import { openRunReader, type RunData } from "./read_run.ts";
import { runReport } from "./run_report.ts";

export interface LiveOptions {
  /** 0 takes a free one. */
  readonly port: number;
  readonly by?: XAxis;
  /** Between two looks at the runs' files, while anybody watches. */
  readonly poll_ms?: number;
}

/** A server that runs until it is closed. */
export interface LiveReports extends AsyncDisposable {
  readonly url: string;
}

/**
 * Serves a page of the runs, which need not be there yet, and tells the browsers that show it when anything changed. It
 * listens on the loopback address alone, serves no files, and answers only requests that name this machine: a page of
 * another site, or a name that was pointed here, learns nothing.
 */
export function serveReports(
  runs: readonly string[],
  { port, by = "step", poll_ms = 1000 }: LiveOptions,
): LiveReports {
  const look = looker(runs);
  const events = eventStreams(async () => (await look()).revision, poll_ms);
  const handle = async (request: Request): Promise<Response> => {
    const refusal = refusalOf(request, server.addr.port);
    if (refusal) return refusal;
    const { pathname } = new URL(request.url);
    if (pathname === "/events") return events.open();
    if (pathname !== "/") return plain(404, "there is only /");
    try {
      const { data, revision } = await look();
      const text = runReport(data, { by, revision, writtenAt: new Date() });
      const headers = { ...commonHeaders, "content-type": "text/html; charset=utf-8" };
      return new Response(request.method === "HEAD" ? null : text, { headers });
    } catch (error) {
      return plain(500, messageOf(error)); // a file that somebody is about to mend, say
    }
  };
  const server = listen(port, handle);
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    async [Symbol.asyncDispose]() {
      events.close();
      await server.shutdown();
    },
  };
}

function listen(port: number, handle: (request: Request) => Promise<Response>) {
  try {
    return Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, handle);
  } catch (error) {
    if (
      !(error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied)
    ) {
      throw error;
    }
    const what = error instanceof Deno.errors.AddrInUse ? "is in use" : "may not be taken";
    throw new UserError(`port ${port} ${what}`, { hint: "leave --port out for a free one" });
  }
}

/** Reads all runs; the revision changes when one of them did, and is another in each process. */
function looker(runs: readonly string[]) {
  const readers = runs.map((run) => openRunReader(run)), began = Date.now().toString(36);
  let last: Promise<unknown> = Promise.resolve();
  const read = async () => {
    const data: RunData[] = [];
    for (const reader of readers) data.push(await reader());
    return { data, revision: [began, ...data.map(({ revision }) => revision)].join("-") };
  };
  // readers go on from where they were, so one look ends before another begins
  return () => {
    const next = last.then(read, read);
    last = next;
    return next;
  };
}

const commonHeaders = {
  "cache-control": "no-store",
  "content-security-policy": "frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

function plain(status: number, text: string, headers: Record<string, string> = {}): Response {
  const type = { "content-type": "text/plain; charset=utf-8" };
  return new Response(`${text}\n`, { status, headers: { ...commonHeaders, ...type, ...headers } });
}

/** Undefined where the request may be answered. */
function refusalOf(request: Request, port: number): Response | undefined {
  const hosts = ["127.0.0.1", "localhost", "[::1]"].map((name) => `${name}:${port}`);
  const host = request.headers.get("host")?.toLowerCase() ?? "";
  const origin = request.headers.get("origin")?.toLowerCase();
  if (!hosts.includes(host) && !(port === 80 && hosts.includes(`${host}:80`))) {
    return plain(403, "only for this machine, by its own name");
  }
  if (origin !== undefined && origin !== `http://${host}`) {
    return plain(403, "not for pages of other sites");
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    return plain(405, "only GET", { allow: "GET, HEAD" });
  }
  return undefined;
}

/** Streams of server-sent events that all tell the same; nothing is looked at while there is none. */
function eventStreams(look: () => Promise<string>, poll_ms: number) {
  const clients = new Set<ReadableStreamDefaultController<Uint8Array>>();
  const encoder = new TextEncoder(), quiet_ms = 15_000;
  let told = "", toldAt = 0, timer: ReturnType<typeof setTimeout> | undefined;
  const tell = (text: string) => {
    toldAt = performance.now();
    for (const client of clients) client.enqueue(encoder.encode(text));
  };
  const tick = async () => {
    timer = undefined;
    try {
      const revision = await look();
      if (revision !== told) tell(`data: ${told = revision}\n\n`);
    } catch {
      // whoever loads the page is told what is wrong
    }
    if (performance.now() - toldAt > quiet_ms) tell(": still here\n\n"); // else what lies between gives up
    if (clients.size > 0 && timer === undefined) timer = setTimeout(tick, poll_ms);
  };
  return {
    open(): Response {
      let own: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          own = controller;
          controller.enqueue(encoder.encode(`retry: 1000\n\n${told && `data: ${told}\n\n`}`));
          clients.add(controller);
          if (timer === undefined) timer = setTimeout(tick, 0);
        },
        cancel: () => void clients.delete(own),
      });
      return new Response(body, {
        headers: { ...commonHeaders, "content-type": "text/event-stream" },
      });
    },
    close(): void {
      clearTimeout(timer);
      for (const client of clients) client.close();
      clients.clear();
    },
  };
}
