/**
 * How a download is shown: a live line and notes on stderr, or JSON lines.
 *
 * @module
 */
import type { FetchEvent, FetchResult, Listing, Retry } from "../core/hub/mod.ts";
import { formatBytes, plural } from "../core/io/words.ts";
import { formatDuration } from "./ui/numbers.ts";
import { type Progress, progressLine } from "./ui/progress.ts";

/** What is said, and how. */
export interface Conversation {
  readonly json: boolean;
  readonly quiet: boolean;
}

type ProgressEvent = Extract<FetchEvent, { kind: "progress" }>;

/** Tells a download from its listing to its end. */
export class FetchStory {
  readonly #json: boolean;
  readonly #progress: Progress;
  readonly #rate: RateMeter = rateMeter();
  readonly #began: number = performance.now();
  #missing = { files: 0, bytes: 0 };

  constructor({ json, quiet }: Conversation) {
    this.#json = json;
    this.#progress = progressLine(json || quiet ? "quiet" : "normal");
  }

  /** Says what the files are taken from, and with whose right. */
  source(
    { repo: { kind, id, revision }, commit, files }: Listing,
    { token, fromCache }: { token: string | undefined; fromCache: string | undefined },
  ): void {
    const from = fromCache === undefined ? "hub" : "cache";
    this.#print({ kind: "source", from, repo: id, repo_kind: kind, revision, commit });
    if (fromCache !== undefined) {
      this.note(`${fromCache}: from the cache, as far as it has been fetched`);
    }
    const name = `${kind === "model" ? "model" : "data set"} ${id}`;
    const at = revision === commit ? commit : `${revision} is commit ${commit}`;
    const who = token === undefined || fromCache !== undefined
      ? ""
      : `, asked with the token of ${token}`;
    this.note(`${name}: ${at}, ${plural(files.length, "file")}${who}`);
  }

  note(line: string): void {
    this.#progress.note(line);
  }

  retry({ what, reason, waitMs }: Retry): void {
    this.#print({ kind: "retry", what, reason, wait_ms: waitMs });
    this.note(`${what}: ${reason}; again in ${formatDuration(waitMs / 1000)}`);
  }

  tell(event: FetchEvent): void {
    switch (event.kind) {
      case "start": {
        const { files, bytes, missingFiles, missingBytes } = event;
        this.#missing = { files: missingFiles, bytes: missingBytes };
        const counts = { missing_files: missingFiles, missing_bytes: missingBytes };
        this.#print({ kind: "start", files, bytes, ...counts });
        const all = `${plural(files, "file")}, ${formatBytes(bytes)}`;
        if (missingFiles === 0) return this.note(`${all}: all here already`);
        const here = missingFiles === files
          ? ""
          : `, ${formatBytes(missingBytes)} in ${plural(missingFiles, "file")} not here yet`;
        return this.note(`fetching ${all}${here}`);
      }
      case "progress":
        this.#rate.add(performance.now(), event.received);
        return this.#progress.update(() => this.#line(event));
      case "file": {
        const { path, size, localPath, state } = event;
        return this.#print({ kind: "file", path, size, local_path: localPath, state });
      }
      case "waiting":
        this.#print({ kind: "waiting", path: event.path });
        return this.note(`${event.path}: another process is fetching it; waiting for that`);
    }
  }

  end({ folder, files, received }: FetchResult): void {
    const seconds = (performance.now() - this.#began) / 1000;
    const counts = { files: files.length, received, seconds: Number(seconds.toFixed(3)) };
    this.#print({ kind: "end", folder, ...counts });
    this.close();
    if (this.#missing.files === 0) return;
    const rate = received > 0 ? `, ${formatBytes(received / seconds)}/s` : "";
    this.note(
      `${formatBytes(received)} came in ${
        formatDuration(seconds)
      }${rate}; sizes and hashes are right`,
    );
  }

  /** Removes the live line. */
  close(): void {
    this.#progress.end();
  }

  #line({ files, at }: ProgressEvent): string {
    const { bytes, files: count } = this.#missing, perSecond = this.#rate.perSecond();
    const percent = Math.floor(100 * at / Math.max(1, bytes));
    const left = perSecond > 0
      ? `  ${formatBytes(perSecond)}/s  ${formatDuration(Math.ceil((bytes - at) / perSecond))} left`
      : "";
    return `${percent} %  ${formatBytes(at)} of ${formatBytes(bytes)}${left}  ` +
      `${files} of ${plural(count, "file")}`;
  }

  #print(event: Record<string, unknown>): void {
    if (this.#json) console.log(JSON.stringify(event));
  }
}

/** How fast a count grows. */
interface RateMeter {
  add(ms: number, total: number): void;
  perSecond(): number;
}

/** Measures over the last ten seconds, so that an early stall does not weigh for ever. */
export function rateMeter(windowMs = 10_000): RateMeter {
  const points: (readonly [ms: number, total: number])[] = [];
  return {
    add(ms, total) {
      const last = points.at(-1);
      if (last && ms - last[0] < windowMs / 100) return; // a hundred points are enough
      points.push([ms, total]);
      while (points.length > 2 && ms - points[0][0] > windowMs) points.shift();
    },
    perSecond() {
      const first = points[0], last = points.at(-1);
      if (!first || !last || last[0] === first[0]) return 0;
      return 1000 * (last[1] - first[1]) / (last[0] - first[0]);
    },
  };
}
