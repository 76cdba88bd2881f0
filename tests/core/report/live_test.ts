import assert from "node:assert/strict";
import { join } from "node:path";
import { type LiveReports, serveReports } from "../../../core/report/live.ts";
import { withTempDir } from "../../support.ts";
import { writeRun } from "./runs.ts";

/** A server of runs while `use` goes on. */
async function serving<T>(runs: string[], use: (server: LiveReports) => Promise<T>): Promise<T> {
  await using server = serveReports(runs, { port: 0, poll_ms: 20 });
  return await use(server);
}

/** What is answered to a request as it is written, which `fetch` would put right. */
async function answerTo(url: string, request: string): Promise<string> {
  using socket = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(url).port) });
  await socket.write(new TextEncoder().encode(request.replaceAll("\n", "\r\n")));
  return await new Response(socket.readable).text();
}

/** The answer's status to a GET with headers of the sender's choice. */
async function statusOf(url: string, headers: string, path = "/"): Promise<string> {
  const answer = await answerTo(url, `GET ${path} HTTP/1.1\n${headers}\nConnection: close\n\n`);
  return answer.split(" ")[1];
}

Deno.test("watch: only requests by this machine's own name are answered", () =>
  withTempDir((dir) =>
    serving([join(dir, "run")], async ({ url }) => {
      const { port } = new URL(url);
      for (const name of ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"]) {
        assert.equal(await statusOf(url, `Host: ${name}:${port}`), "200", name);
      }
      // names that somebody points here, other ports, and none
      for (
        const host of [
          "evil.example",
          `evil.example:${port}`,
          "127.0.0.1",
          `127.0.0.1.evil.example:${port}`,
        ]
      ) {
        assert.equal(await statusOf(url, `Host: ${host}`), "403", host);
        assert.equal(await statusOf(url, `Host: ${host}`, "/events"), "403", host);
      }
      const own = `Host: 127.0.0.1:${port}`;
      for (
        const origin of [
          "http://evil.example",
          "null",
          `http://127.0.0.1:1`,
          `https://127.0.0.1:${port}`,
        ]
      ) {
        assert.equal(await statusOf(url, `${own}\nOrigin: ${origin}`, "/events"), "403", origin);
      }
      assert.equal(await statusOf(url, `${own}\nOrigin: http://127.0.0.1:${port}`), "200");
    })
  ));

Deno.test("watch: it serves the page alone: no files, no other methods, no frames of others", () =>
  withTempDir((dir) =>
    serving([join(dir, "run")], async ({ url }) => {
      await Deno.writeTextFile(join(dir, "secret"), "secret");
      const own = `Host: ${new URL(url).host}`;
      for (
        const path of ["/secret", "/../secret", "/%2e%2e/secret", "//secret", "/run/config.yaml"]
      ) {
        assert.equal(await statusOf(url, own, path), "404", path);
      }
      const posted = await answerTo(
        url,
        `POST / HTTP/1.1\n${own}\nContent-Length: 0\nConnection: close\n\n`,
      );
      assert.match(posted, /^HTTP\/1\.1 405 /);
      const answer = await fetch(url, { headers: { "sec-fetch-site": "none" } });
      assert.match(await answer.text(), /^<!doctype html>/);
      assert.match(answer.headers.get("content-security-policy")!, /frame-ancestors 'none'/);
      assert.equal(answer.headers.get("cross-origin-resource-policy"), "same-origin");
      assert.equal(answer.headers.get("access-control-allow-origin"), null);
      assert.equal(answer.headers.get("cache-control"), "no-store");
    })
  ));

Deno.test("watch: the loopback address alone is listened on, and a port that is taken is one clear error", () =>
  serving(["run"], async ({ url }) => {
    const { hostname, port } = new URL(url);
    assert.equal(hostname, "127.0.0.1");
    const others = Deno.networkInterfaces().filter(({ family, address }) =>
      family === "IPv4" && !address.startsWith("127.")
    );
    for (const { address } of others) {
      await assert.rejects(Deno.connect({ hostname: address, port: Number(port) }), address);
    }
    assert.throws(
      () => serveReports(["run"], { port: Number(port) }),
      /^UserError: port \d+ is in use$/,
    );
  }));

Deno.test("watch: it tells of a run's beginning, its steps, its being cut back and its going on", () =>
  withTempDir((dir) =>
    serving([join(dir, "run")], async ({ url }) => {
      const cancel = new AbortController(), { signal } = cancel;
      const { body } = await fetch(`${url}events`, { signal });
      const events = body!.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
      /** The next revision, once there is one. */
      let text = "";
      const next = async (): Promise<string> => {
        for (;;) {
          const found = text.match(/data: (\S+)\n\n/);
          if (found) {
            text = text.slice(found.index! + found[0].length);
            return found[1];
          }
          text += (await events.next()).value;
        }
      };
      const page = async () => await (await fetch(url)).text();
      let before = await next();
      assert.match(await page(), /not there yet/);
      await writeRun(join(dir, "run"), { steps: 3 });
      const changed = async () => {
        const revision = await next();
        assert.notEqual(revision, before);
        before = revision;
        return await page();
      };
      let shown = await changed();
      while (!shown.includes("<dd>done")) shown = await changed(); // files come one after the other
      const metrics = join(dir, "run/metrics.jsonl");
      const [first] = (await Deno.readTextFile(metrics)).split("\n");
      await Deno.writeTextFile(metrics, `${first}\n`);
      while (!shown.includes("<dd>not running")) shown = await changed();
      await Deno.writeTextFile(metrics, '{"step":2,"loss":0.0625}\n', { append: true });
      while (!shown.includes("0.0625")) shown = await changed();
      cancel.abort();
      await events.next().catch(() => {});
    })
  ));

Deno.test("watch: what is wrong with a file is told to who loads the page, until it is right again", () =>
  withTempDir(async (dir) => {
    await writeRun(join(dir, "run"), { steps: 3 });
    await serving([join(dir, "run")], async ({ url }) => {
      await Deno.writeTextFile(join(dir, "run/config.yaml"), "a: [1");
      const answer = await fetch(url);
      assert.equal(answer.status, 500);
      assert.match(await answer.text(), /^Flow sequence/);
      await Deno.writeTextFile(join(dir, "run/config.yaml"), "steps: 3");
      const again = await fetch(url);
      assert.equal(again.status, 200);
      await again.body?.cancel();
    });
  }));
