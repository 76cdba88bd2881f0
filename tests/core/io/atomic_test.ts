import assert from "node:assert/strict";
import {
  exists,
  removePartials,
  replaceFolder,
  writeFileAtomic,
  writeFolderAtomic,
} from "../../../core/io/atomic.ts";
import { withTempDir } from "../../support.ts";

const namesIn = async (dir: string) =>
  (await Array.fromAsync(Deno.readDir(dir), (entry) => entry.name)).sort();

Deno.test("writeFileAtomic: a failed write leaves the old file and nothing else", async () => {
  await withTempDir(async (dir) => {
    await writeFileAtomic(`${dir}/a.txt`, "old");
    const failing = writeFileAtomic(`${dir}/a.txt`, async (temporary) => {
      await Deno.writeTextFile(temporary, "half of the n");
      throw new Error("disk full");
    });
    await assert.rejects(failing, /disk full/);
    assert.equal(await Deno.readTextFile(`${dir}/a.txt`), "old");
    assert.deepEqual(await namesIn(dir), ["a.txt"]);
  });
});

Deno.test("exists: below a file there is nothing", async () => {
  await withTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "");
    assert.equal(await exists(`${dir}/file`), true);
    assert.equal(await exists(`${dir}/file/below`), false);
  });
});

Deno.test("writeFileAtomic: makes the folders above, and replaces", async () => {
  await withTempDir(async (dir) => {
    await writeFileAtomic(`${dir}/deep/er/a.bin`, new Uint8Array([1]));
    await writeFileAtomic(`${dir}/deep/er/a.bin`, new Uint8Array([2, 3]));
    assert.deepEqual(await Deno.readFile(`${dir}/deep/er/a.bin`), new Uint8Array([2, 3]));
  });
});

Deno.test("writeFolderAtomic: the folder is not there until it is whole", async () => {
  await withTempDir(async (dir) => {
    await writeFolderAtomic(`${dir}/out`, async (temporary) => {
      await Deno.writeTextFile(`${temporary}/a`, "1");
      await Deno.mkdir(`${temporary}/sub`);
      await Deno.writeTextFile(`${temporary}/sub/b`, "2");
      assert.equal(await exists(`${dir}/out`), false);
    });
    assert.equal(await Deno.readTextFile(`${dir}/out/sub/b`), "2");
    const again = writeFolderAtomic(`${dir}/out`, () => Promise.resolve());
    await assert.rejects(again, { name: "UserError", message: "it exists already" });
    assert.equal(await Deno.readTextFile(`${dir}/out/a`), "1");
  });
});

Deno.test("replaceFolder: keeps the old folder if the new one fails, else replaces it", async () => {
  await withTempDir(async (dir) => {
    await Deno.mkdir(`${dir}/out`);
    await Deno.writeTextFile(`${dir}/out/old`, "");
    await assert.rejects(replaceFolder(`${dir}/out`, () => Promise.reject(new Error("no"))), /no/);
    assert.deepEqual(await namesIn(`${dir}/out`), ["old"]);
    await replaceFolder(`${dir}/out`, (t) => Deno.writeTextFile(`${t}/new`, ""));
    assert.deepEqual(await namesIn(`${dir}/out`), ["new"]);
    assert.deepEqual(await namesIn(dir), ["out"]);
  });
});

Deno.test("removePartials: removes what a dead process left, not what a live one writes", async () => {
  await withTempDir(async (dir) => {
    const dead = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
    await dead.status;
    await Deno.mkdir(`${dir}/.step-9.partial-${dead.pid}-ab12`);
    await Deno.writeTextFile(
      `${dir}/.a.partial-${Deno.pid}-ff`,
      "left by an earlier process of our id",
    );
    await Deno.writeTextFile(`${dir}/.a.partial-${Deno.ppid}-ff`, "our parent writes");
    await Deno.writeTextFile(`${dir}/kept`, "");
    await writeFileAtomic(`${dir}/b`, async (temporary) => {
      await Deno.writeTextFile(temporary, "b");
      assert.deepEqual(
        await removePartials(dir),
        [
          `.a.partial-${Deno.pid}-ff`,
          `.step-9.partial-${dead.pid}-ab12`,
        ].sort(),
      );
    });
    assert.deepEqual(await namesIn(dir), [`.a.partial-${Deno.ppid}-ff`, "b", "kept"]);
  });
});
