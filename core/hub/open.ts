/**
 * A repository's files as the hub tells them or, without a network, as far as the cache has them.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { cachedListing, cacheOf } from "./cache.ts";
import { type Hub, isUnreachable } from "./http.ts";
import { type Listing, listRepo } from "./listing.ts";
import { type Repo, repoName } from "./reference.ts";

/** A listing and, where it is the cache's, why. */
export interface OpenedRepo {
  readonly listing: Listing;
  readonly fromCache: string | undefined;
}

/** Asks the hub; falls back to what the cache has where the network is forbidden or fails. */
export async function openRepo(hub: Hub, repo: Repo, cache: string): Promise<OpenedRepo> {
  const cached = cacheOf(cache, repo);
  if (hub.offlineBy !== undefined) {
    const listing = await cachedListing(cached, repo);
    if (listing) return { listing, fromCache: `${hub.offlineBy} is set` };
    throw new UserError(`it is not in the cache, and ${hub.offlineBy} forbids the network`, {
      where: whole(repo),
      hint: `unset ${hub.offlineBy} to fetch it from ${hub.endpoint}, or bring ${cached.folder} ` +
        "from a machine that has it",
      exitCode: exitCodes.failed,
    });
  }
  try {
    return { listing: await listRepo(hub, repo), fromCache: undefined };
  } catch (error) {
    if (!isUnreachable(error) || !(error instanceof UserError)) throw error;
    const listing = await cachedListing(cached, repo);
    if (listing) return { listing, fromCache: error.message };
    throw new UserError(`${error.message}; it is not in the cache either`, {
      where: whole(repo),
      hint: "check the network, and HF_ENDPOINT if the hub is elsewhere; " +
        `or bring ${cached.folder} from a machine that has it`,
      exitCode: exitCodes.failed,
      cause: error.cause,
    });
  }
}

function whole(repo: Repo): string {
  return repo.revision === "main" ? repoName(repo) : `${repoName(repo)}@${repo.revision}`;
}
