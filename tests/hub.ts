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
  { pageSize = 1000, bytesPerChunk = 16384 } = {},
): TestHub {
  const requests: HubRequest[] = [], faults = new Map<string, Fault[]>();
  const held = new AbortController(); // ends what stalls
  const serve = (where: HubRequest["where"], handler: (request: Request, url: URL) => Response) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {}, onError }, (request) => {
      const url = new URL(request.url);
      const { headers } = request;
      const [range, authorization] = [headers.get("range"), headers.get("authorization")];
      requests.push({ where, path: url.pathname, range, authorization });
      return handler(request, url);
    });
  const nextFault = (path: string) => {
    const [, list] = [...faults].find(([key]) => path.includes(key)) ?? [];
    return list?.shift();
  };
  const deliver = (request: Request, path: string, file: HubFile, headers: HeadersInit) => {
    const fault = nextFault(path);
    if (fault?.kind === "status") return new Response(null, fault);
    const bytes = fault?.kind === "wrong bytes"
      ? file.content.map((byte) => byte ^ 1)
      : file.sends ?? file.content;
    const range = fault?.kind === "no ranges" ? null : request.headers.get("range");
    const from = Number(range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0);
    if (range && from >= bytes.length) return new Response(null, { status: 416 });
    const rest = bytes.subarray(from);
    const all = new Headers(headers);
    all.set("content-length", String(rest.length));
    all.set("accept-ranges", "bytes");
    if (range) all.set("content-range", `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
    const limit = fault && "after" in fault ? fault.after : undefined;
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        for (let at = 0; at < rest.length; at += bytesPerChunk) {
          if (limit !== undefined && at >= limit) {
            if (fault?.kind === "break") return controller.error(new Error("broken on purpose"));
            await new Promise((resolve) => held.signal.addEventListener("abort", resolve));
            return controller.close();
          }
          controller.enqueue(rest.subarray(at, at + bytesPerChunk));
          await new Promise((resolve) => setTimeout(resolve, 0)); // so that parts leave before a fault
        }
        controller.close();
      },
    });
    return new Response(body, { status: range ? 206 : 200, headers: all });
  };
  const cdn = serve("cdn", (request, url) => {
    const [, name, path] = url.pathname.match(/^\/repos\/(.*?)\/\+\/(.*)$/) ?? [];
    const file = repos[name]?.files[decodeURIComponent(path)];
    if (!file || !url.searchParams.has("signature")) return new Response(null, { status: 403 });
    return deliver(request, decodeURIComponent(path), file, { etag: '"of-the-cdn"' });
  });
  const cdnOrigin = `http://127.0.0.1:${cdn.addr.port}`;
  const hub = serve("hub", (request, url) => {
    const parsed = parsePath(url.pathname);
    if (!parsed) return refuse(404, "");
    const { name, verb, revision, path } = parsed, repo = repos[name];
    const authorization = request.headers.get("authorization");
    if (authorization === "Bearer expired") return refuse(401, "", "Invalid credentials in token");
    const isAllowed = repo?.token === undefined || authorization === `Bearer ${repo.token}`;
    if (!repo || (!isAllowed && repo.access !== "gated")) {
      return refuse(authorization ? 404 : 401, "RepoNotFound");
    }
    if (revision !== "main" && revision !== commit) return refuse(404, "RevisionNotFound");
    if (verb === "revision" || verb === "tree") {
      const fault = nextFault(verb);
      if (fault?.kind === "status") return new Response(null, fault);
      if (verb === "revision") return Response.json({ id: name, sha: commit });
      return page(repo, url, pageSize);
    }
    if (!isAllowed) {
      const message = "Access to this repository is restricted.";
      return refuse(authorization ? 403 : 401, "GatedRepo", message);
    }
    const file = repo.files[path];
    if (!file) return refuse(404, "EntryNotFound");
    const linked = { "x-repo-commit": commit, "x-linked-size": String(file.content.length) };
    if (!file.lfs) {
      return deliver(request, path, file, { ...linked, etag: `"${gitHash(file.content)}"` });
    }
    const location = `${cdnOrigin}/repos/${name}/+/${encodeURIComponent(path)}?signature=1`;
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

function onError(error: unknown): Response {
  return new Response(String(error), { status: 500 });
}

function parsePath(pathname: string) {
  const api = pathname.match(
    /^\/api\/((?:models|datasets)\/[^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/,
  );
  if (api) return { name: api[1], verb: api[2], revision: decodeURIComponent(api[3]), path: "" };
  const file = pathname.match(/^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/);
  if (!file) return undefined;
  const [, folder = "models/", id, revision, path] = file;
  return {
    name: `${folder}${id}`,
    verb: "resolve",
    revision: decodeURIComponent(revision),
    path: decodeURIComponent(path),
  };
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
