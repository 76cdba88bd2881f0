/**
 * What a repository holds at a commit.
 *
 * @module
 */
import { z } from "zod";
import { exitCodes, UserError } from "../io/errors.ts";
import { type RemoteFile, requireSafePaths } from "./files.ts";
import { ask, type Hub, type Persistence, persistently, textOf } from "./http.ts";
import { type Repo, repoName } from "./reference.ts";

/** All files of a repository, at the commit that its revision names now. */
export interface Listing {
  readonly repo: Repo;
  /** 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const sha1 = z.string().regex(/^[0-9a-f]{40}$/);
const revisionSchema = z.object({ sha: sha1 });
const size = z.int().nonnegative();
const treeSchema = z.array(z.object({
  type: z.string(),
  path: z.string(),
  size: size.optional(),
  oid: z.string().optional(),
  lfs: z.object({ oid: z.string().regex(/^(sha256:)?[0-9a-f]{64}$/), size }).nullish(),
}));

/** Asks the hub; throws where the repository, its revision, or the right to it is missing. */
export async function listRepo(hub: Hub, repo: Repo): Promise<Listing> {
  const { sha: commit } = await commitOf(hub, repo);
  const files: RemoteFile[] = [];
  let next: string | undefined = `${apiOf(hub, repo)}/tree/${commit}?recursive=true`;
  while (next !== undefined) {
    const page: { value: z.output<typeof treeSchema>; next: string | undefined } = //
      await readJson(hub, repo, next, treeSchema);
    for (const entry of page.value) {
      if (entry.type === "file") files.push(fileOf(entry, repo));
    }
    next = page.next;
  }
  requireSafePaths(files.map(({ path }) => path), repoName(repo));
  return { repo, commit, files };
}

/** The address of a file's content at a commit, which never changes. */
export function contentUrl(hub: Hub, { repo, commit }: Listing, path: string): string {
  const folder = repo.kind === "dataset" ? "datasets/" : "";
  return `${hub.endpoint}/${folder}${repo.id}/resolve/${commit}/${
    path.split("/").map(encodeURIComponent).join("/")
  }`;
}

function apiOf(hub: Hub, { kind, id }: Pick<Repo, "kind" | "id">): string {
  return `${hub.endpoint}/api/${kind}s/${id}`;
}

async function commitOf(hub: Hub, repo: Repo) {
  const url = (kind: Repo["kind"]) =>
    `${apiOf(hub, { ...repo, kind })}/revision/${encodeURIComponent(repo.revision)}?expand=sha`;
  try {
    // without a network the cache may answer, and should not be long in coming
    return (await readJson(hub, repo, url(repo.kind), revisionSchema, { networkAttempts: 2 }))
      .value;
  } catch (error) {
    if (!(error instanceof UserError) || error.cause !== "RepoNotFound") throw error;
    const other = { ...repo, kind: repo.kind === "model" ? "dataset" : "model" } as const;
    const exists = await readJson(hub, other, url(other.kind), revisionSchema).then(
      () => true,
      () => false, // then the first answer is the one to show
    );
    if (!exists) throw error;
    throw new UserError(`this is a ${other.kind === "dataset" ? "data set" : "model"}`, {
      where: repo.id,
      hint: other.kind === "dataset" ? "add --dataset" : "leave out --dataset",
    });
  }
}

async function readJson<T extends z.ZodType>(
  hub: Hub,
  repo: Repo,
  url: string,
  schema: T,
  persistence: Persistence = {},
) {
  const attempt = () =>
    ask(hub, { url, repo }, async (answer) => {
      const text = await textOf(answer);
      const parsed = schema.safeParse(jsonOf(text));
      if (!parsed.success) {
        throw new UserError("the answer is not one of a hub", {
          where: url,
          hint: "HF_ENDPOINT says where the hub is; a proxy or a login page may stand between",
          exitCode: exitCodes.failed,
        });
      }
      return { value: parsed.data, next: nextPage(answer.headers, answer.url) };
    });
  return await persistently(hub, repoName(repo), attempt, persistence);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The address in `Link: <…>; rel="next"`. */
function nextPage(headers: Headers, base: string): string | undefined {
  const link = headers.get("link")?.match(/<([^>]*)>\s*;[^,]*\brel="?next\b/)?.[1];
  return link === undefined ? undefined : new URL(link, base).href;
}

function fileOf(entry: z.output<typeof treeSchema>[number], repo: Repo): RemoteFile {
  const { path, lfs } = entry, oid = sha1.safeParse(entry.oid).data;
  if (lfs) {
    const hex = lfs.oid.replace("sha256:", "");
    return { path, size: lfs.size, hash: { algorithm: "sha256", hex } };
  }
  if (oid !== undefined && entry.size !== undefined) {
    return { path, size: entry.size, hash: { algorithm: "git-sha1", hex: oid } };
  }
  throw new UserError(`the hub tells no size and hash of ${JSON.stringify(path)}`, {
    where: repoName(repo),
    exitCode: exitCodes.failed,
  });
}
