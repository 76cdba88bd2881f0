import assert from "node:assert/strict";
import { join } from "node:path";
import { content, type HubRepo, startHub, type TestHub } from "../hub.ts";
import { quern, startQuern, withTempDir } from "../support.ts";
import { byteLevelBpe } from "../core/text/fixtures.ts";

const big = content(600_000);
const lines = content(`${JSON.stringify({ text: "a story" })}\n`.repeat(30));
const repos: Record<string, HubRepo> = {
  "models/o/tokenizer": {
    files: { "tokenizer.json": { content: content(JSON.stringify(byteLevelBpe())) } },
  },
  "models/o/large": { files: { "w.bin": { content: big, lfs: true } } },
  "models/o/gated": { files: { a: { content: content("a") } }, token: "hf_x", access: "gated" },
  "models/o/private": { files: { a: { content: content("a") } }, token: "hf_x", access: "private" },
  "datasets/o/stories": {
    files: {
      "README.md": { content: content("# Stories\n") },
      "data/a.jsonl": { content: lines, lfs: true },
      "data/b.jsonl": { content: content(`${JSON.stringify({ text: "b" })}\n`), lfs: true },
    },
  },
};

interface Setup {
  server: TestHub;
  cwd: string;
  env: Record<string, string>;
  fetch(...args: string[]): ReturnType<typeof quern>;
}

/** A hub, an empty folder, and a cache of its own. */
async function withHub(use: (setup: Setup) => Promise<void>): Promise<void> {
  await withTempDir(async (cwd) => {
    await using server = startHub(repos);
    const env = {
      HF_ENDPOINT: server.endpoint,
      HF_HOME: join(cwd, "hf"),
      HF_HUB_CACHE: "",
      HF_TOKEN: "",
      HF_HUB_OFFLINE: "",
      NO_PROXY: "127.0.0.1",
    };
    await use({ server, cwd, env, fetch: (...args) => quern(["fetch", ...args], { cwd, env }) });
  });
}

Deno.test("quern fetch: a tokenizer's path is the result, and tokenize takes it", async () => {
  await withHub(async ({ server, cwd, fetch }) => {
    const { code, stdout, stderr } = await fetch("o/tokenizer", "tokenizer.json");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^model o\/tokenizer: main is commit [0-9a-f]{40}, 1 file\n/);
    assert.match(stderr, /\nnext: quern tokenize corpus\.txt --tokenizer \S+tokenizer\.json /);
    const path = stdout.trimEnd();
    assert.ok(path.startsWith(join(cwd, "hf/hub/models--o--tokenizer/snapshots")));
    await Deno.writeTextFile(join(cwd, "corpus.txt"), "the end ".repeat(40));
    const next = ["tokenize", "corpus.txt", "--tokenizer", path, "--out", "d"];
    assert.equal((await quern(next, { cwd })).code, 0);
    const before = server.requests.length;
    const again = await fetch("o/tokenizer", "tokenizer.json");
    assert.equal(again.stdout, stdout);
    assert.match(again.stderr, /all here already/);
    assert.ok(server.requests.slice(before).every(({ path }) => path.startsWith("/api/")));
  });
});

Deno.test("quern fetch: a data set's files by pattern, in a folder that tokenize reads", async () => {
  await withHub(async ({ cwd, fetch }) => {
    const [list, slip, missing] = await Promise.all([
      fetch("o/stories", "--dataset", "--list"),
      fetch("o/stories"),
      fetch("o/stories", "data/c.jsonl", "--dataset"),
    ]);
    assert.equal(list.stdout, " 10 B  README.md\n570 B  data/a.jsonl\n 13 B  data/b.jsonl\n");
    assert.match(list.stderr, /3 files, 593 B\n$/);
    assert.equal(slip.code, 2);
    const clash = await Promise.all([
      fetch("o/stories", "--list", "--out", "x"),
      fetch("o/stories", "--overwrite"),
    ]);
    assert.deepEqual(clash.map(({ code }) => code), [2, 2]);
    assert.match(slip.stderr, /^error: o\/stories: this is a data set\nhint: add --dataset\n$/);
    const { code, stdout, stderr } = await fetch(
      ...["hf:datasets/o/stories", "--include", "*.jsonl", "--out", "data/s", "--json"],
    );
    assert.equal(code, 0, stderr);
    assert.equal(stderr, "");
    const events = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(events.map(({ kind }) => kind), ["source", "start", "file", "file", "end"]);
    assert.equal(events[1].missing_bytes, 583);
    assert.deepEqual([events[4].folder, events[4].received], ["data/s", 583]);
    const told = await fetch("o/stories", "data", "--dataset", "--out", "data/s");
    const next = told.stderr.match(/^next: quern (.*)$/m)?.[1].replaceAll('"', "").split(" ") ?? [];
    assert.equal((await quern(next, { cwd })).code, 0, next.join(" "));
    assert.equal(missing.code, 1);
    assert.match(
      missing.stderr,
      /it has no file data\/c\.jsonl \(did you mean "data\/[ab]\.jsonl"\?\)/,
    );
  });
});

Deno.test("quern fetch: killed in the middle, it goes on where it was", async () => {
  await withHub(async ({ server, cwd, env, fetch }) => {
    server.faults.set("w.bin", [{ kind: "stall", after: 200_000 }]);
    const child = startQuern(["fetch", "o/large", "--out", "m"], { cwd, env });
    const sizeNow = async () => {
      const names = await Array.fromAsync(Deno.readDir(join(cwd, "m"))).catch(() => []);
      return names.length === 0 ? 0 : (await Deno.stat(join(cwd, "m", names[0].name))).size;
    };
    while (await sizeNow() < 200_000) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGKILL");
    await child.output();
    const size = await sizeNow();
    assert.ok(size < big.length);
    const { code, stdout, stderr } = await fetch("o/large", "--out", "m");
    assert.deepEqual([code, stdout], [0, "m/w.bin\n"], stderr);
    assert.deepEqual(await Deno.readFile(join(cwd, "m/w.bin")), Uint8Array.from(big));
    assert.equal(server.requests.at(-1)?.range, `bytes=${size}-`);
    assert.deepEqual([...Deno.readDirSync(join(cwd, "m"))].map(({ name }) => name), ["w.bin"]);
  });
});

Deno.test("quern fetch: a server that falls silent is asked again; Ctrl-C keeps what came", async () => {
  await withHub(async ({ server, cwd, env, fetch }) => {
    server.faults.set("w.bin", [{ kind: "stall", after: 200_000 }]);
    const silent = await fetch("o/large", "--out", "s", "--timeout", "0.3");
    assert.equal(silent.code, 0, silent.stderr);
    assert.match(silent.stderr, /w\.bin of model o\/large: nothing came for 0\.3 s; again in /);

    server.faults.set("w.bin", [{ kind: "stall", after: 200_000 }]);
    const child = startQuern(["fetch", "o/large", "--out", "m"], { cwd, env });
    const asked = server.requests.length;
    while (server.requests.length < asked + 4) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGINT");
    const { code, stderr } = await child.output();
    assert.equal(code, 130);
    assert.match(new TextDecoder().decode(stderr), /note: interrupted\nhint: what came is kept/);
  });
});

Deno.test("quern fetch: who may not, what is not there, and a token that is never shown", async () => {
  await withHub(async ({ cwd, env, fetch }) => {
    const withToken = (token: string, ...args: string[]) =>
      quern(["fetch", ...args], { cwd, env: { ...env, HF_TOKEN: token } });
    const [bare, nothing, revision, gated, alien, expired, right] = await Promise.all([
      fetch("Qwen", "tokenizer.json"),
      fetch("o/nothing"),
      fetch("o/large@v9"),
      fetch("o/gated"),
      withToken("hf_other", "o/gated"),
      withToken("expired", "o/large"),
      withToken("hf_x", "o/private", "--out", "p"),
    ]);
    assert.match(
      bare.stderr,
      /model Qwen: there is none.*\nhint: .* has mostly the form owner\/name/,
    );
    assert.match(
      nothing.stderr,
      /model o\/nothing: there is none of this name at http\S+, or it is private/,
    );
    assert.match(revision.stderr, /model o\/large: it has no revision v9\n/);
    assert.match(
      gated.stderr,
      /on request only.*\nhint: ask for it at \S+o\/gated, then set HF_TOKEN/,
    );
    assert.match(alien.stderr, /not to the token from HF_TOKEN\n/);
    assert.match(expired.stderr, /the token from HF_TOKEN is not valid\n/);
    assert.equal(right.code, 0, right.stderr);
    assert.match(right.stderr, /asked with the token of HF_TOKEN\n/);
    for (const { code } of [nothing, revision, gated, alien, expired]) assert.equal(code, 1);
    for (const { stderr } of [alien, expired, right]) {
      assert.doesNotMatch(stderr, /hf_other|expired|hf_x/);
    }
  });
});

Deno.test("quern fetch: without a network the cache answers, or a word says what is missing", async () => {
  await withHub(async ({ server, cwd, env, fetch }) => {
    await fetch("o/tokenizer");
    server.requests.length = 0;
    const offline = { ...env, HF_HUB_OFFLINE: "1" };
    const [there, absent] = await Promise.all([
      quern(["fetch", "o/tokenizer", "tokenizer.json"], { cwd, env: offline }),
      quern(["fetch", "o/large"], { cwd, env: offline }),
    ]);
    assert.equal(there.code, 0, there.stderr);
    assert.match(there.stderr, /^HF_HUB_OFFLINE is set: from the cache/);
    const part = await quern(["fetch", "o/tokenizer", "vocab.json"], { cwd, env: offline });
    assert.match(part.stderr, /model o\/tokenizer in the cache: it has no file vocab\.json/);
    assert.equal(absent.code, 1);
    assert.match(
      absent.stderr,
      /model o\/large: it is not in the cache, and HF_HUB_OFFLINE forbids/,
    );
    assert.match(absent.stderr, /hint: unset HF_HUB_OFFLINE to fetch it from http/);
    assert.deepEqual(server.requests, []);
    const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = closed.addr;
    closed.close();
    const unplugged = { ...env, HF_ENDPOINT: `http://127.0.0.1:${port}` };
    const [found, lost] = await Promise.all([
      quern(["fetch", "o/tokenizer"], { cwd, env: unplugged }),
      quern(["fetch", "o/large", "--quiet"], { cwd, env: unplugged }),
    ]);
    assert.equal(found.code, 0, found.stderr);
    assert.match(
      found.stderr,
      /cannot be reached: .*: from the cache, as far as it has been fetched\n/,
    );
    assert.equal(lost.code, 1);
    assert.match(
      lost.stderr,
      /^error: model o\/large: 127.* cannot be reached: .*not in the cache either\n/,
    );
  });
});

Deno.test("quern fetch: two processes fetch a file once", async () => {
  await withHub(async ({ server, fetch }) => {
    const both = await Promise.all([fetch("o/large"), fetch("o/large")]);
    assert.deepEqual(both.map(({ code }) => code), [0, 0]);
    assert.equal(both[0].stdout, both[1].stdout);
    assert.equal(server.requests.filter(({ where }) => where === "cdn").length, 1);
  });
});
