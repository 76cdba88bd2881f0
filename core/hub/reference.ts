/**
 * What a user names on the hub: `owner/name`, `hf:datasets/owner/name@revision/path`, or an address that
 * a browser shows.
 *
 * @module
 */
import { UserError } from "../io/errors.ts";

export type RepoKind = "model" | "dataset";

/** A repository of the hub at one revision. */
export interface Repo {
  readonly kind: RepoKind;
  /** `owner/name`, or a bare name as of the hub's first models. */
  readonly id: string;
  /** A branch, a tag, or a commit. */
  readonly revision: string;
}

/** What the options say beside the name. */
export interface ReferenceOptions {
  readonly dataset: boolean;
  readonly revision?: string | undefined;
  /** Where the hub is; addresses of other sites are refused. */
  readonly endpoint: string;
}

/** What a name says itself. */
interface Named {
  readonly kind?: RepoKind | undefined;
  readonly id: string;
  readonly revision?: string | undefined;
  readonly path?: string | undefined;
}

const part = String.raw`[A-Za-z0-9_](?:[\w.-]*\w)?`;
const revisionText = String.raw`refs/(?:convert|pr)/[^/@]+|[^/]+`;
const nameForm = new RegExp(
  `^(?:(models|datasets|spaces)/)?(${part}/${part}|${part}(?=@|$))(?:@(${revisionText}))?(?:/([^/].*)?)?$`,
);
const pageForm = new RegExp(
  `^/(?:(datasets|spaces)/)?((?:${part}/)?${part})(?:/(?:tree|blob|resolve|raw)/(${revisionText})(?:/(.*))?)?/?$`,
);

/** The repository that is meant, and the file or folder in it, if one is named; throws where none can be. */
export function parseReference(
  text: string,
  { dataset, revision, endpoint }: ReferenceOptions,
): { repo: Repo; path: string | undefined } {
  const named = /^https?:\/\//i.test(text) ? parseAddress(text, endpoint) : parseName(text);
  if (dataset && named.kind === "model") {
    throw new UserError("this names a model, and --dataset says that it is none", { where: text });
  }
  if (revision !== undefined && named.revision !== undefined && revision !== named.revision) {
    throw new UserError(`two revisions are given: ${named.revision} and ${revision}`, {
      where: text,
      hint: "leave one out",
    });
  }
  for (const name of [revision, named.revision]) {
    // it becomes a part of addresses and of paths in the cache
    if (name === undefined || /^[\w+-][\w.+-]*(\/[\w+-][\w.+-]*)*$/.test(name)) continue;
    throw new UserError(`${JSON.stringify(name)} is not the name of a revision`, {
      where: text,
      hint: "give a branch, a tag, a commit, or refs/pr/N",
    });
  }
  return {
    repo: {
      kind: dataset ? "dataset" : named.kind ?? "model",
      id: named.id,
      revision: revision ?? named.revision ?? "main",
    },
    path: named.path?.replace(/\/+$/, "") || undefined,
  };
}

/** `model Qwen/Qwen3-0.6B`, for messages. */
export function repoName({ kind, id }: Pick<Repo, "kind" | "id">): string {
  return `${kind === "model" ? "model" : "data set"} ${id}`;
}

function parseName(text: string): Named {
  const match = text.replace(/^hf:(\/\/)?/, "").match(nameForm);
  if (!match || text.includes("..")) throw notAName(text);
  const [, folder, id, revision, path] = match;
  return {
    kind: kindOf(folder, text),
    id,
    revision: revision && decode(revision, text),
    path,
  };
}

function parseAddress(text: string, endpoint: string): Named {
  const url = URL.parse(text), homes = [endpoint, "https://huggingface.co", "https://hf.co"];
  if (!url) throw notAName(text);
  if (!homes.some((home) => new URL(home).host === url.host)) {
    throw new UserError(`this is not an address of the hub at ${endpoint}`, {
      where: text,
      hint: "name it as owner/name; HF_ENDPOINT says where the hub is",
    });
  }
  const match = decode(url.pathname, text).match(pageForm);
  if (!match) throw notAName(text);
  const [, folder, id, revision, path] = match;
  return { kind: kindOf(folder, text) ?? "model", id, revision, path };
}

function kindOf(folder: string | undefined, where: string): RepoKind | undefined {
  if (folder === "spaces") {
    throw new UserError("spaces are programs; models and data sets can be fetched", { where });
  }
  return folder === undefined ? undefined : folder === "datasets" ? "dataset" : "model";
}

function decode(text: string, where: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw notAName(where);
  }
}

function notAName(where: string): UserError {
  return new UserError("this does not name a repository of the hub", {
    where,
    hint: "write owner/name, or hf:datasets/owner/name@revision/path",
  });
}
