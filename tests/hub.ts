/**
 * A hub on this machine for tests: the parts of Hugging Face's HTTP interface that `quern fetch` uses, large files on a
 * second origin, and the faults that networks have.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** A file; `sends` makes the server deliver other bytes than it announces. */
export interface HubFile {
  readonly content: Uint8Array<ArrayBuffer>;
  /** Large files lie on the second origin and have a sha256. */
  readonly lfs?: boolean;
  readonly sends?: Uint8Array<ArrayBuffer>;
}

export interface HubRepo {
  readonly files: Readonly<Record<string, HubFile>>;
  /** Further entries of the listing, as they are. */
  readonly rawEntries?: readonly Record<string, unknown>[];
  /** Asks for this token; a `gated` one says so. */
  readonly token?: string;
  readonly access?: "gated" | "private";
  /** Its new name; the hub redirects to that. */
  readonly movedTo?: string;
}

/** What goes wrong at one request for a path; each fault happens once, in order. */
export type Fault =
  | { readonly kind: "status"; readonly status: number; readonly headers?: Record<string, string> }
  /** The connection breaks after so many bytes of the body. */
  | { readonly kind: "break"; readonly after: number }
  /** Nothing more comes after so many bytes. */
  | { readonly kind: "stall"; readonly after: number }
  /** The whole file is sent, whatever range was asked for. */
  | { readonly kind: "no ranges" }
  /** Other bytes of the right number. */
  | { readonly kind: "wrong bytes" };

export interface HubRequest {
  readonly where: "hub" | "cdn";
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

/** The commit of every repository of the test hub. */
export const commit = "0123456789abcdef0123456789abcdef01234567";

export interface TestHub extends AsyncDisposable {
  readonly endpoint: string;
  /** Everything that was asked for so far. */
  readonly requests: HubRequest[];
  /** Faults by a file's path in its repository, or by a word of an address of the interface. */
  readonly faults: Map<string, Fault[]>;
}

/** Text or a count of bytes that follow each other without a short period. */
export function content(of: string | number): Uint8Array<ArrayBuffer> {
  if (typeof of === "string") return new TextEncoder().encode(of);
  return Uint8Array.from({ length: of }, (_, i) => (i * 2654435761) >>> 13);
}

/** Starts it. Repositories are named `models/owner/name` and `datasets/owner/name`. */
export function startHub(
  repos: Readonly<Record<string, HubRepo>>,
  { pageSize = 1000 } = {},
): TestHub {
  const requests: HubRequest[] = [], faults: TestHub["faults"] = new Map();
  const held = new AbortController(); // ends what stalls
  const serve = (where: HubRequest["where"], handler: (request: Request, url: URL) => Response) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {}, onError }, (request) => {
      const url = new URL(request.url), { headers } = request;
      const [range, authorization] = [headers.get("range"), headers.get("authorization")];
      requests.push({ where, path: url.pathname, range, authorization });
      return handler(request, url);
    });
  const nextFault = (path: string) => [...faults].find(([key]) => path.includes(key))?.[1].shift();
  const deliver = (request: Request, path: string, file: HubFile, headers: HeadersInit) =>
    contentResponse(request, file, { headers, fault: nextFault(path), held: held.signal });
  const cdn = serve("cdn", (request, url) => {
    const [, name, path] = url.pathname.match(/^\/repos\/(.*?)\/\+\/(.*)$/) ?? [];
    const file = repos[name]?.files[decodeURIComponent(path)];
    if (!file || !url.searchParams.has("signature")) return new Response(null, { status: 403 });
    return deliver(request, decodeURIComponent(path), file, { etag: '"of-the-cdn"' });
  });
  const hub = serve("hub", (request, url) => {
    const parsed = parsePath(url.pathname);
    if (!parsed) return refuse(404, "");
    const { name, verb, path } = parsed, repo = repos[name];
    const refusal = refusalOf(repo, parsed, request.headers.get("authorization"));
    if (refusal) return refusal;
    if (repo.movedTo !== undefined) {
      const location = `${url.pathname}${url.search}`.replace(parsed.id, repo.movedTo);
      return new Response(null, { status: 307, headers: { location } });
    }
    if (verb !== "resolve") {
      const fault = nextFault(verb);
      if (fault?.kind === "status") return new Response(null, fault);
      return verb === "tree" ? page(repo, url, pageSize) : Response.json({ sha: commit });
    }
    const file = repo.files[path];
    if (!file) return refuse(404, "EntryNotFound");
    const linked = { "x-repo-commit": commit, "x-linked-size": String(file.content.length) };
    if (!file.lfs) {
      return deliver(request, path, file, { ...linked, etag: `"${gitHash(file.content)}"` });
    }
    const target = `repos/${name}/+/${encodeURIComponent(path)}?signature=1`;
    const location = `http://127.0.0.1:${cdn.addr.port}/${target}`;
    const headers = { ...linked, "x-linked-etag": `"${sha256(file.content)}"`, location };
    return new Response(null, { status: 302, headers });
  });
  return {
    endpoint: `http://127.0.0.1:${hub.addr.port}`,
    requests,
    faults,
    async [Symbol.asyncDispose]() {
      held.abort();
      await Promise.all([hub.shutdown(), cdn.shutdown()]);
    },
  };
}

/** What the hub says to those who may not, or who ask for what is not there. */
function refusalOf(
  repo: HubRepo | undefined,
  { verb, revision }: ParsedPath,
  authorization: string | null,
): Response | undefined {
  if (authorization === "Bearer expired") return refuse(401, "", "Invalid credentials in token");
  const isAllowed = repo?.token === undefined || authorization === `Bearer ${repo.token}`;
  if (!repo || (!isAllowed && repo.access !== "gated")) {
    return refuse(authorization ? 404 : 401, "RepoNotFound");
  }
  if (revision !== "main" && revision !== commit) return refuse(404, "RevisionNotFound");
  if (isAllowed || verb !== "resolve") return undefined; // what a gated one holds is for all to see
  return refuse(authorization ? 403 : 401, "GatedRepo", "Access to this repository is restricted.");
}

interface Delivery {
  readonly headers: HeadersInit;
  readonly fault: Fault | undefined;
  readonly held: AbortSignal;
}

/** A file, or what is asked for of it, or what a fault makes of it. */
function contentResponse(request: Request, file: HubFile, delivery: Delivery): Response {
  const { fault } = delivery;
  if (fault?.kind === "status") return new Response(null, fault);
  const bytes = fault?.kind === "wrong bytes"
    ? file.content.map((byte) => byte ^ 1)
    : file.sends ?? file.content;
  const range = fault?.kind === "no ranges" ? null : request.headers.get("range");
  const from = Number(range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0);
  if (range && from >= bytes.length) return new Response(null, { status: 416 });
  const headers = new Headers(delivery.headers);
  headers.set("content-length", String(bytes.length - from));
  headers.set("accept-ranges", "bytes");
  if (range) headers.set("content-range", `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
  const body = bodyOf(bytes.subarray(from), delivery);
  return new Response(body, { status: range ? 206 : 200, headers });
}

const bytesPerChunk = 16384;

function bodyOf(bytes: Uint8Array, { fault, held }: Delivery): ReadableStream<Uint8Array> {
  const limit = fault && "after" in fault ? fault.after : Infinity;
  return new ReadableStream({
    async start(controller) {
      for (let at = 0; at < bytes.length; at += bytesPerChunk) {
        if (at >= limit) {
          if (fault?.kind === "break") return controller.error(new Error("broken on purpose"));
          await new Promise((resolve) => held.addEventListener("abort", resolve));
          return controller.close();
        }
        controller.enqueue(bytes.subarray(at, at + bytesPerChunk));
        await new Promise((resolve) => setTimeout(resolve, 0)); // parts leave before a fault
      }
      controller.close();
    },
  });
}

function onError(error: unknown): Response {
  return new Response(String(error), { status: 500 });
}

/** An address of the interface, or of a file. */
interface ParsedPath {
  readonly name: string;
  readonly id: string;
  readonly verb: string;
  readonly revision: string;
  readonly path: string;
}

/** Those of a repository without an owner, too. */
function parsePath(pathname: string): ParsedPath | undefined {
  const [, kind, id, verb, at] =
    pathname.match(/^\/api\/(models|datasets)\/([^/]+(?:\/[^/]+)?)\/(revision|tree)\/([^/]+)$/) ??
      [];
  if (id) return { name: `${kind}/${id}`, id, verb, revision: decodeURIComponent(at), path: "" };
  const file = pathname.match(/^\/(datasets\/)?([^/]+(?:\/[^/]+)?)\/resolve\/([^/]+)\/(.+)$/);
  if (!file) return undefined;
  const [, folder = "models/", of, revision, path] = file.map((part) =>
    part && decodeURIComponent(part)
  );
  return { name: `${folder}${of}`, id: of, verb: "resolve", revision, path };
}

function refuse(status: number, code: string, message = "refused"): Response {
  return Response.json({ error: message }, {
    status,
    headers: { ...(code ? { "x-error-code": code } : {}), "x-error-message": message },
  });
}

/** One page of the listing, with the address of the next. */
function page(repo: HubRepo, url: URL, pageSize: number): Response {
  const folders = new Set(
    Object.keys(repo.files).filter((path) => path.includes("/"))
      .map((path) => path.slice(0, path.lastIndexOf("/"))),
  );
  const entries = [
    ...[...folders].map((path) => ({ type: "directory", oid: commit, size: 0, path })),
    ...Object.entries(repo.files).map(([path, { content, lfs }]) => ({
      type: "file",
      oid: gitHash(lfs ? new TextEncoder().encode("the pointer") : content),
      size: content.length,
      path,
      ...(lfs
        ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 132 }, xetHash: "0a" }
        : {}),
    })),
    ...repo.rawEntries ?? [],
  ];
  const from = Number(url.searchParams.get("cursor") ?? 0), to = from + pageSize;
  const next = new URL(url);
  next.searchParams.set("cursor", String(to));
  const headers: HeadersInit = to < entries.length ? { link: `<${next}>; rel="next"` } : {};
  return Response.json(entries.slice(from, to), { headers });
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** As `git hash-object` says. */
export function gitHash(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}
