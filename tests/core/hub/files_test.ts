import assert from "node:assert/strict";
import { join, relative } from "node:path";
import fc from "fast-check";
import { chooseFiles, matches, requireSafePaths } from "../../../core/hub/files.ts";
import { readSettings } from "../../../core/hub/settings.ts";
import { retryAfterMs } from "../../../core/hub/refusals.ts";
import { rateMeter } from "../../../cli/fetch_progress.ts";
import { withTempDir } from "../../support.ts";

const files = ["README.md", "data/a.parquet", "data/old/b.parquet", "x[1].txt"].map((path) => ({
  path,
}));
const choose = (include: string[], exclude: string[] = []) =>
  chooseFiles(files, { include, exclude }, "o/d").map(({ path }) => path);

Deno.test("chosen files: names, folders and patterns", () => {
  assert.deepEqual(choose([]).length, 4);
  assert.deepEqual(choose(["README.md"]), ["README.md"]);
  assert.deepEqual(choose(["*.parquet"]), ["data/a.parquet", "data/old/b.parquet"]);
  assert.deepEqual(choose(["data/*.parquet"]), ["data/a.parquet"]);
  assert.deepEqual(choose(["data/**/*.parquet"]), ["data/a.parquet", "data/old/b.parquet"]);
  assert.deepEqual(choose(["./data/"], ["data/old"]), ["data/a.parquet"]);
  assert.deepEqual(choose(["x[1].txt"]), ["x[1].txt"]);
  assert.deepEqual(choose(["*.{md,txt}"]), ["README.md", "x[1].txt"]);
});

Deno.test("chosen files: each wish must meet one, and something must be left", () => {
  assert.throws(() => choose(["README.md", "*.json"]), /it has no file \*\.json$/);
  assert.throws(() => choose(["REDME.md"]), /no file REDME\.md \(did you mean "README\.md"\?\)/);
  assert.throws(() => choose([], ["*"]), /nothing is left/);
  assert.throws(() => chooseFiles([], { include: [], exclude: [] }, "o/d"), /it has no files/);
});

Deno.test("paths: those that would leave the folder are refused, the others stay in it", () => {
  const refused = [
    "../a",
    "a/../../b",
    "/etc/passwd",
    "a//b",
    "",
    "./a",
    "a\\..\\b",
    "C:/a",
    "a/..",
  ];
  for (const path of [...refused, "a\u001b[31m", "a\n"]) {
    assert.throws(() => requireSafePaths([path], "o/d"), /nothing was written/, path);
  }
  assert.throws(() => requireSafePaths(["a", "a"], "o/d"), /listed twice/);
  const piece = fc.constantFrom("a", "..", ".", "", "/", "\\", "b.c", "...", "C:", "~");
  fc.assert(fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
    const path = pieces.join("/");
    try {
      requireSafePaths([path], "o/d");
    } catch {
      return;
    }
    const inside = relative("/out", join("/out", path));
    assert.ok(inside === path && !inside.startsWith("../"), path);
  }));
});

Deno.test("patterns: a path matches itself and every folder above it, whatever it holds", () => {
  const name = fc.stringMatching(/^[a-z[\]{}*?.]{1,5}$/).filter((text) => !/^\.+$/.test(text));
  fc.assert(fc.property(fc.array(name, { minLength: 1, maxLength: 4 }), (parts) => {
    for (let n = 1; n <= parts.length; n++) {
      assert.ok(matches(parts.join("/"), parts.slice(0, n).join("/")));
    }
  }));
});

Deno.test("settings: the variables of Hugging Face's tools, empty ones as unset", async () => {
  await withTempDir(async (home) => {
    const read = (env: Record<string, string>) => readSettings((name) => env[name]);
    const bare = await read({ HF_HOME: home, HF_TOKEN: "" });
    assert.deepEqual(bare, {
      endpoint: "https://huggingface.co",
      token: undefined,
      cache: join(home, "hub"),
      offlineBy: undefined,
    });
    await Deno.writeTextFile(join(home, "token"), "hf_file\n");
    const full = await read({
      HF_HOME: home,
      HF_HUB_CACHE: "/c",
      HF_ENDPOINT: "http://localhost:1/",
      HF_HUB_OFFLINE: "true",
    });
    assert.deepEqual(full, {
      endpoint: "http://localhost:1",
      token: { value: "hf_file", source: join(home, "token") },
      cache: "/c",
      offlineBy: "HF_HUB_OFFLINE",
    });
    const named = await read({ HF_HOME: home, HF_TOKEN: " hf_env " });
    assert.deepEqual(named.token, { value: "hf_env", source: "HF_TOKEN" });
    assert.equal((await read({ XDG_CACHE_HOME: "/x" })).cache, "/x/huggingface/hub");
    await assert.rejects(read({ HF_ENDPOINT: "huggingface.co" }), /not the address of a hub/);
    await assert.rejects(
      read({ HF_TOKEN: "hf_se\ncret" }),
      (error: Error) => /no token has/.test(error.message) && !error.message.includes("hf_se"),
    );
  });
});

Deno.test("waits: seconds, a date, or the hub's own rate limit", () => {
  const wait = (headers: Record<string, string>) =>
    retryAfterMs(new Headers(headers), Date.parse("Thu, 26 Nov 2026 12:00:00 GMT"));
  assert.equal(wait({}), undefined);
  assert.equal(wait({ "retry-after": "7" }), 7000);
  assert.equal(wait({ "retry-after": "Thu, 26 Nov 2026 12:00:30 GMT" }), 30_000);
  assert.equal(wait({ "retry-after": "Thu, 26 Nov 2026 11:00:00 GMT" }), 0);
  assert.equal(wait({ "retry-after": "soon" }), undefined);
  assert.equal(wait({ ratelimit: '"api";r=0;t=55' }), 55_000);
});

Deno.test("speed: is that of the last ten seconds", () => {
  const rate = rateMeter();
  assert.equal(rate.perSecond(), 0);
  for (let second = 0; second <= 60; second++) {
    rate.add(second * 1000, second < 30 ? 0 : (second - 30) * 500);
  }
  assert.equal(rate.perSecond(), 500);
});
