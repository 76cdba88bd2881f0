import assert from "node:assert/strict";
import { basename, join } from "node:path";
import fc from "fast-check";
import {
  chooseFiles,
  type FetchEvent,
  fetchFiles,
  type Hub,
  openRepo,
  type Repo,
  type Retry,
} from "../../../core/hub/mod.ts";
import { commit, content, type HubRepo, startHub, type TestHub } from "../../hub.ts";
import { withTempDir } from "../../support.ts";

const repo: Repo = { kind: "model", id: "o/m", revision: "main" };
const big = content(300_000);
const oneBig: Record<string, HubRepo> = {
  "models/o/m": { files: { "w.bin": { content: big, lfs: true } } },
};

function hubOf({ endpoint }: { endpoint: string }, more: Partial<Hub> = {}): Hub {
  return {
    endpoint,
    token: undefined,
    offlineBy: undefined,
    agent: "quern/test",
    patience: { stallMs: 5000, waitMs: 1, attempts: 3 },
    signal: new AbortController().signal,
    onRetry() {},
    ...more,
  };
}

/** Fetches everything and says what happened. */
async function fetchAll(
  hub: Hub,
  dir: string,
  { out, ifExists = "fail" as "fail" | "replace", include = [] as string[] } = {} as {
    out?: string;
    ifExists?: "fail" | "replace";
    include?: string[];
  },
) {
  const events: FetchEvent[] = [];
  const { listing, fromCache } = await openRepo(hub, repo, dir);
  const files = chooseFiles(listing.files, { include, exclude: [] }, "o/m");
  const job = { listing, files, cache: dir, out, ifExists, parallel: 2 };
  const result = await fetchFiles(hub, job, (event) => events.push(event));
  return { ...result, events, fromCache, listing };
}

/** A hub and an empty folder. */
function withHub(
  repos: Record<string, HubRepo>,
  use: (server: TestHub, dir: string) => Promise<void>,
  options?: { pageSize: number },
) {
  return withTempDir(async (dir) => {
    await using server = startHub(repos, options);
    await use(server, dir);
  });
}

const downloads = ({ requests }: TestHub) =>
  requests.filter(({ path }) => !path.startsWith("/api"));

/** All files below a folder that are no links. */
async function plainFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    if (isDirectory) found.push(...await plainFiles(join(folder, name)));
    else if (isFile) found.push(name);
  }
  return found.sort();
}

Deno.test("fetch: all pages of the listing, small and large files, Hugging Face's cache layout", async () => {
  const small = content("{}\n");
  const files = Object.fromEntries(
    Array.from({ length: 7 }, (_, i) => [`part/${i}.txt`, { content: content(`text ${i}`) }]),
  );
  const repos = {
    "models/o/m": {
      files: { ...files, "config.json": { content: small }, "w.bin": { content: big, lfs: true } },
    },
  };
  await withHub(repos, async (server, cache) => {
    const { folder, files, received } = await fetchAll(hubOf(server), cache);
    assert.equal(files.length, 9);
    assert.equal(received, big.length + small.length + 7 * 6);
    const home = join(cache, "models--o--m");
    assert.equal(folder, join(home, "snapshots", commit));
    assert.equal(await Deno.readTextFile(join(home, "refs/main")), commit);
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), Uint8Array.from(big));
    assert.equal(await Deno.readTextFile(join(folder, "part/6.txt")), "text 6");
    const blob = await Deno.realPath(join(folder, "config.json"));
    // printf '{}\n' | git hash-object --stdin
    assert.equal(basename(blob), "0967ef424bce6791893e9a57bb952f80fd536e93");
    server.requests.length = 0;
    const again = await fetchAll(hubOf(server), cache);
    assert.equal(again.received, 0);
    assert.deepEqual(downloads(server), []);
    assert.ok(again.files.every(({ state }) => state === "there"));
  }, { pageSize: 3 });
});

Deno.test("fetch: the token goes to the hub and never to where it redirects", async () => {
  const repos = { "models/o/m": { ...oneBig["models/o/m"], token: "hf_secret" } };
  await withHub(repos, async (server, cache) => {
    const token = { value: "hf_secret", source: "HF_TOKEN" };
    await fetchAll(hubOf(server, { token }), cache);
    for (const { where, authorization } of server.requests) {
      assert.equal(authorization, where === "hub" ? "Bearer hf_secret" : null);
    }
    assert.ok(server.requests.some(({ where }) => where === "cdn"));
  });
});

Deno.test("fetch: a connection that breaks goes on where it stopped, as often as it gets on", async () => {
  await withHub(oneBig, async (server, cache) => {
    const breaks = Array.from({ length: 5 }, () => ({ kind: "break", after: 40_000 } as const));
    server.faults.set("w.bin", breaks);
    const retries: Retry[] = [];
    const hub = hubOf(server, { onRetry: (retry) => void retries.push(retry) });
    const { received, folder } = await fetchAll(hub, cache);
    assert.equal(received, big.length); // nothing came twice
    assert.equal(retries.length, 5); // more than three attempts: each brought something
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), Uint8Array.from(big));
    const starts = downloads(server).flatMap(({ where, range }) => where === "cdn" ? [range] : []);
    assert.equal(new Set(starts).size, 6);
  });
});

Deno.test("fetch: a repository that was renamed is found, and the token follows within the hub", async () => {
  const repos = {
    "models/old": { files: {}, movedTo: "o/m" },
    "models/o/m": { ...oneBig["models/o/m"], token: "hf_secret" },
  };
  await withHub(repos, async (server, cache) => {
    const hub = hubOf(server, { token: { value: "hf_secret", source: "HF_TOKEN" } });
    const { listing } = await openRepo(hub, { ...repo, id: "old" }, cache);
    const job = { listing, files: listing.files, cache, out: undefined, parallel: 1 } as const;
    const { folder } = await fetchFiles(hub, { ...job, ifExists: "fail" }, () => {});
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), Uint8Array.from(big));
  });
});

Deno.test("fetch: whatever goes wrong on the way, a file is right or not there", async () => {
  const small = content(100_000),
    fault = fc.oneof(
      fc.record({
        kind: fc.constant("break" as const),
        after: fc.integer({ min: 0, max: 120_000 }),
      }),
      fc.record({
        kind: fc.constant("status" as const),
        status: fc.constantFrom(403, 408, 429, 500, 503),
      }),
      fc.constantFrom({ kind: "no ranges" as const }, { kind: "wrong bytes" as const }),
    );
  await withHub(
    { "models/o/m": { files: { "w.bin": { content: small, lfs: true } } } },
    async (server, dir) => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(fault, { maxLength: 6 }), async (faults) => {
          const cache = join(dir, String(run++));
          server.faults.set("w.bin", [...faults]);
          const failed = await fetchAll(hubOf(server), cache).then(() => false, () => true);
          assert.ok(!failed || faults.length > 1);
          server.faults.clear(); // what is left goes on to the right end
          const { folder } = await fetchAll(hubOf(server), cache);
          assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), Uint8Array.from(small));
        }),
        { numRuns: 20, endOnFailure: true }, // to shrink it would take minutes
      );
    },
  );
});

Deno.test("fetch: a server without ranges, one that stalls, 429, 500 and a stale address of the CDN", async () => {
  await withHub(oneBig, async (server, cache) => {
    server.faults.set("w.bin", [
      { kind: "break", after: 100_000 },
      { kind: "no ranges" },
    ]);
    assert.equal((await fetchAll(hubOf(server), join(cache, "a"))).files.length, 1);
    // the whole file, sent in spite of the range, is taken as such
    assert.equal(downloads(server).filter(({ where }) => where === "cdn").length, 2);

    server.faults.set("revision", [
      { kind: "status", status: 429, headers: { "retry-after": "0" } },
      { kind: "status", status: 503 },
    ]);
    server.faults.set("w.bin", [
      { kind: "stall", after: 100_000 },
      { kind: "status", status: 403 },
      { kind: "status", status: 500 },
    ]);
    const reasons: string[] = [];
    const hub = hubOf(server, {
      patience: { stallMs: 200, waitMs: 1, attempts: 4 },
      onRetry: ({ reason }) => void reasons.push(reason),
    });
    const { received } = await fetchAll(hub, join(cache, "b"));
    assert.equal(received, big.length);
    assert.deepEqual(reasons.map((reason) => reason.replace(/127\S+/, "HOST")), [
      "HOST says that there are too many requests",
      "HOST answers 503 Service Unavailable",
      "nothing came for 0.2 s",
      "HOST answers 403 Forbidden",
      "HOST answers 500 Internal Server Error",
    ]);
  });
});

Deno.test("fetch: tries end, and a wait of hours is left to the user", async () => {
  await withHub(oneBig, async (server, cache) => {
    const status = (status: number, after?: string) => ({
      kind: "status" as const,
      status,
      ...(after ? { headers: { "retry-after": after } } : {}),
    });
    server.faults.set("revision", [status(500), status(502), status(503)]);
    await assert.rejects(fetchAll(hubOf(server), cache), /answers 503 .*\(3 tries\)/);
    server.faults.set("revision", [status(429, "7200")]);
    await assert.rejects(fetchAll(hubOf(server), cache), {
      message: /too many requests$/,
      hint: /^try again in 120 min: /,
    });
  });
});

Deno.test("fetch: wrong bytes are fetched again, then refused, and never kept", async () => {
  await withHub(oneBig, async (server, cache) => {
    server.faults.set("w.bin", [{ kind: "wrong bytes" }]);
    const { received } = await fetchAll(hubOf(server), join(cache, "a"));
    assert.equal(received, 2 * big.length);
  });
  const other = content("other"), liar = { content: content("right"), sends: other };
  for (const sends of [other, content("longer"), content("less")]) {
    for (const lfs of [true, false]) {
      const repos = { "models/o/m": { files: { "a.txt": { ...liar, sends, lfs } } } };
      await withHub(repos, async (server, cache) => {
        await assert.rejects(
          fetchAll(hubOf(server), cache),
          sends === other ? /not what the hub announced: / : /more came|ended after 4 of 5 bytes/,
        );
        assert.deepEqual(
          (await plainFiles(cache)).filter((name) => !name.endsWith(".incomplete")),
          [],
        );
      });
    }
  }
});

Deno.test("fetch: a partial that is damaged or too long is no beginning", async () => {
  await withHub(oneBig, async (server, cache) => {
    const { files } = (await openRepo(hubOf(server), repo, cache)).listing;
    const partial = join(cache, "models--o--m/blobs", `.${files[0].hash.hex}.incomplete`);
    for (const left of [content("damaged"), content(400_000)]) {
      await Deno.mkdir(join(cache, "models--o--m/blobs"), { recursive: true });
      await Deno.writeFile(partial, left);
      const { folder } = await fetchAll(hubOf(server), cache);
      assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), Uint8Array.from(big));
      await Deno.remove(join(cache, "models--o--m"), { recursive: true });
    }
  });
});

Deno.test("fetch: into a folder, whole files of its own; others there are not replaced unasked", async () => {
  await withHub(oneBig, async (server, dir) => {
    const cache = join(dir, "cache"), out = join(dir, "out");
    await fetchAll(hubOf(server), cache, { out });
    assert.deepEqual(await plainFiles(dir), ["w.bin"]); // nothing in the cache, no left-over
    server.requests.length = 0;
    assert.equal((await fetchAll(hubOf(server), cache, { out })).files[0].state, "there");
    assert.deepEqual(downloads(server), []);
    const mine = big.slice();
    mine[0] ^= 1;
    await Deno.writeFile(join(out, "w.bin"), mine);
    await assert.rejects(fetchAll(hubOf(server), cache, { out }), {
      message: "a file with other content is there",
      where: join(out, "w.bin"),
    });
    assert.deepEqual(await Deno.readFile(join(out, "w.bin")), Uint8Array.from(mine));
    await fetchAll(hubOf(server), cache, { out, ifExists: "replace" });
    assert.deepEqual(await Deno.readFile(join(out, "w.bin")), Uint8Array.from(big));
  });
});

Deno.test("fetch: what the cache has is copied, checked, and needs no network", async () => {
  await withHub(oneBig, async (server, dir) => {
    const cache = join(dir, "cache");
    const { folder } = await fetchAll(hubOf(server), cache);
    server.requests.length = 0;
    const offline = hubOf(server, { offlineBy: "HF_HUB_OFFLINE" });
    const copied = await fetchAll(offline, cache, { out: join(dir, "out") });
    assert.deepEqual([copied.received, copied.fromCache], [0, "HF_HUB_OFFLINE is set"]);
    assert.deepEqual(await Deno.readFile(join(dir, "out/w.bin")), Uint8Array.from(big));
    assert.deepEqual(server.requests, []);
    // a damaged cache: the copy is noticed and downloaded instead
    const damaged = big.map((byte) => byte ^ 1);
    await Deno.writeFile(await Deno.realPath(join(folder, "w.bin")), damaged);
    await assert.rejects(fetchAll(offline, cache, { out: join(dir, "b") }), /forbids the network/);
    await fetchAll(hubOf(server), cache, { out: join(dir, "c") });
    assert.deepEqual(await Deno.readFile(join(dir, "c/w.bin")), Uint8Array.from(big));
  });
});

Deno.test("fetch: two at once download a file once", async () => {
  await withHub(oneBig, async (server, cache) => {
    const both = await Promise.all([1, 2].map(() => fetchAll(hubOf(server), cache)));
    assert.equal(both[0].received + both[1].received, big.length);
    assert.ok(both.some(({ events }) => events.some(({ kind }) => kind === "waiting")));
    assert.equal(downloads(server).filter(({ where }) => where === "cdn").length, 1);
  });
});

Deno.test("fetch: equal files of a repository are one content", async () => {
  const file = { content: big, lfs: true };
  await withHub({ "models/o/m": { files: { a: file, b: file } } }, async (server, cache) => {
    const { folder } = await fetchAll(hubOf(server), cache);
    assert.equal(downloads(server).filter(({ where }) => where === "cdn").length, 1);
    for (const name of ["a", "b"]) {
      assert.equal((await Deno.stat(join(folder, name))).size, big.length);
    }
  });
});

Deno.test("fetch: a listing that would write elsewhere is refused whole", async () => {
  const entry = { type: "file", size: 1, oid: "0".repeat(40) };
  for (const path of ["../../evil", "/etc/evil", "a\\b"]) {
    const repos = {
      "models/o/m": { files: { a: { content: content("a") } }, rawEntries: [{ ...entry, path }] },
    };
    await withHub(repos, async (server, cache) => {
      await assert.rejects(fetchAll(hubOf(server), cache), /nothing was written/);
      assert.deepEqual(await plainFiles(cache), []);
    });
  }
  for (const fault of [{ oid: "../../../evil" }, { lfs: { oid: "../evil", size: 1 } }]) {
    const rawEntries = [{ ...entry, path: "a", ...fault }];
    await withHub({ "models/o/m": { files: {}, rawEntries } }, async (server, cache) => {
      await assert.rejects(fetchAll(hubOf(server), cache), /no size and hash|not one of a hub/);
    });
  }
});

Deno.test("fetch: more than the disk holds is refused before the first byte", async () => {
  const lfs = { oid: "0".repeat(64), size: 2 ** 52 };
  const rawEntries = [{ type: "file", path: "a", size: 2 ** 52, oid: "0".repeat(40), lfs }];
  await withHub({ "models/o/m": { files: {}, rawEntries } }, async (server, cache) => {
    await assert.rejects(
      fetchAll(hubOf(server), cache),
      /^UserError: 4096 TiB are to come, and \S+ \w+ are free$/,
    );
    assert.deepEqual(downloads(server), []);
  });
});

Deno.test("fetch: one failure stops the others, and says why", async () => {
  const files = {
    "a.bin": { content: big, lfs: true },
    "b.bin": { content: big, sends: big.map((byte) => byte ^ 1) },
  };
  await withHub({ "models/o/m": { files } }, async (server, cache) => {
    server.faults.set("a.bin", [{ kind: "stall", after: 50_000 }]);
    const started = performance.now();
    await assert.rejects(fetchAll(hubOf(server), cache), /not what the hub announced/);
    assert.ok(performance.now() - started < 4000); // it did not wait for the stall
    // what came of the other is kept
    assert.ok((await plainFiles(cache)).some((name) => name.endsWith(".incomplete")));
  });
});
