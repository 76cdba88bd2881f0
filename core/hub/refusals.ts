/**
 * What the hub's refusals mean: the ones that pass, and the ones that the user must solve.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { type Repo, repoName } from "./reference.ts";
import type { Token } from "./settings.ts";

/** A final error, or a message of one that may be over at the next try. */
export type Refusal = UserError | {
  readonly message: string;
  readonly afterMs: number | undefined;
};

/** Who refused what. */
interface Refused {
  readonly hub: { readonly endpoint: string; readonly token: Token | undefined };
  readonly repo: Repo;
  /** False for the site that it redirected to. */
  readonly isHub: boolean;
}

/** What a status and the hub's own `x-error-code` mean. */
export function refusalOf(response: Response, { hub, repo, isHub }: Refused): Refusal {
  const { status, statusText, headers } = response;
  const code = headers.get("x-error-code"), said = headers.get("x-error-message") ?? "";
  // an address of the CDN holds for an hour or less; the hub gives a fresh one
  if ([408, 429].includes(status) || status >= 500 || (!isHub && status >= 400)) {
    const { host } = new URL(response.url || hub.endpoint);
    const message = status === 429
      ? `${host} says that there are too many requests`
      : `${host} answers ${status}${statusText && ` ${statusText}`}`;
    return { message, afterMs: retryAfterMs(headers) };
  }
  const error = (message: string, hint: string) =>
    new UserError(message, {
      where: repoName(repo),
      hint,
      exitCode: exitCodes.failed,
      cause: code,
    });
  const page = `${hub.endpoint}/${repo.kind === "dataset" ? "datasets/" : ""}${repo.id}`;
  const asked = hub.token ? `the token from ${hub.token.source}` : "no token";
  if (code === "GatedRepo") {
    return error(
      `access is granted on request only, and not to ${
        hub.token ? asked : "those without a token"
      }`,
      hub.token
        ? `ask for it at ${page}, with the account of the token`
        : `ask for it at ${page}, then set HF_TOKEN`,
    );
  }
  if (code === "RevisionNotFound") {
    return error(`it has no revision ${repo.revision}`, `its branches and tags are at ${page}`);
  }
  if (code === "EntryNotFound") return error("it has no such file", "--list shows its files");
  if (status === 401 && /invalid/i.test(said)) {
    return error(`${asked} is not valid`, "renew it, or unset it for what is public");
  }
  if (code === "RepoNotFound" || [401, 404].includes(status)) {
    const name = repo.id.includes("/") ? "check the name" : "a name has mostly the form owner/name";
    return error(
      `there is none of this name at ${hub.endpoint}, or it is private (${asked} was sent)`,
      hub.token ? name : `${name}; for a private one set HF_TOKEN`,
    );
  }
  const words = said.replaceAll(/\p{Cc}+/gu, " ").slice(0, 200);
  return error(`the hub refuses: ${status} ${words || statusText}`, `see ${page}`);
}

/** The wait that a server asks for: `Retry-After` in seconds or as a date, or the hub's `RateLimit`. */
export function retryAfterMs(headers: Headers, now: number = Date.now()): number | undefined {
  const after = headers.get("retry-after")?.trim();
  const reset = headers.get("ratelimit")?.match(/(?:^|;)\s*r=0\s*;\s*t=(\d+)/)?.[1];
  if (after === undefined) return reset === undefined ? undefined : Number(reset) * 1000;
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
