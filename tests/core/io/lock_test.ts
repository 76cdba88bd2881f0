import assert from "node:assert/strict";
import { exists } from "../../../core/io/atomic.ts";
import { lockFile, lockFolder } from "../../../core/io/lock.ts";
import { withTempDir } from "../../support.ts";

const owner = (pid: number, host = Deno.hostname()) =>
  JSON.stringify({ pid, host, since: "2026-01-01T00:00:00Z" });

Deno.test("lock: one at a time; it is gone when it is given back", () =>
  withTempDir(async (dir) => {
    {
      using lock = await lockFolder(dir);
      assert.equal(lock.leftBy, undefined);
      await assert.rejects(lockFolder(dir), {
        message: new RegExp(`another process works in it: process ${Deno.pid} on `),
        exitCode: 1,
      });
    }
    assert.ok(!await exists(`${dir}/${lockFile}`));
    using _again = await lockFolder(dir);
  }));

Deno.test("lock: of many that ask at once one gets it", () =>
  withTempDir(async (dir) => {
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(dir)));
    const got = asked.flatMap((outcome) => outcome.status === "fulfilled" ? [outcome.value] : []);
    assert.equal(got.length, 1);
    got[0][Symbol.dispose]();
  }));

Deno.test("lock: what a killed process left is taken over, whatever runs under its id now", () =>
  withTempDir(async (dir) => {
    for (const pid of [2 ** 22 + 1, Deno.pid, Deno.ppid]) {
      await Deno.writeTextFile(`${dir}/${lockFile}`, owner(pid));
      using lock = await lockFolder(dir);
      assert.equal(lock.leftBy, pid);
    }
    await Deno.writeTextFile(`${dir}/${lockFile}`, '{"pid":'); // killed while it wrote
    using lock = await lockFolder(dir);
    assert.equal(lock.leftBy, undefined);
  }));

Deno.test("lock: another host's is not ours to judge", () =>
  withTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/${lockFile}`, owner(7, "elsewhere"));
    await assert.rejects(lockFolder(dir), {
      message: /process 7 on elsewhere/,
      hint: `if it has ended, remove ${dir}/${lockFile}`,
    });
    assert.ok(await exists(`${dir}/${lockFile}`));
  }));
