/** Files of the Hugging Face hub: what they are called, listing them, and bringing them here whole. */
export { type Choice, chooseFiles, type RemoteFile } from "./files.ts";
export { type FetchedFile, type FetchEvent, fetchFiles, type FetchResult } from "./fetch.ts";
export type { Hub, Patience, Retry } from "./http.ts";
export type { Listing } from "./listing.ts";
export { type OpenedRepo, openRepo } from "./open.ts";
export { parseReference, type Repo, type RepoKind, repoName } from "./reference.ts";
export { type HubSettings, readSettings } from "./settings.ts";
