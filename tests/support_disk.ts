/**
 * Disks that are full before long: a small tmpfs, in a name space of its own or, where those are not
 * allowed, mounted by root. Tests that need one are ignored, and counted, where there is neither.
 *
 * @module
 */
import { withTempDir } from "./support.ts";

interface Disk extends AsyncDisposable {
  readonly path: string;
}

/** Ends with its standard input. The mount point is the folder that it is given. */
const script = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo mounted && cat';

/** A tmpfs that only its holder sees, and whoever looks through the holder's root; gone with it. */
async function held(folder: string, size: string): Promise<Disk | undefined> {
  let holder: Deno.ChildProcess;
  try {
    holder = new Deno.Command("unshare", {
      args: ["-rm", "sh", "-c", script, "sh", folder, size],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
  } catch {
    return undefined; // not Linux
  }
  const reader = holder.stdout.getReader(), { done } = await reader.read();
  const end = async () => {
    await reader.cancel();
    await holder.stdin.close().catch(() => {}); // it may have ended already
    await holder.status;
  };
  if (!done) return { path: `/proc/${holder.pid}/root${folder}`, [Symbol.asyncDispose]: end };
  await end();
  return undefined;
}

async function mounted(folder: string, size: string): Promise<Disk | undefined> {
  const command = async (name: string, ...args: string[]) => {
    try {
      return (await new Deno.Command(name, { args, stderr: "null" }).output()).success;
    } catch {
      return false;
    }
  };
  if (!await command("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder)) return;
  return { path: folder, [Symbol.asyncDispose]: async () => void await command("umount", folder) };
}

const open = async (folder: string, size: string) =>
  await held(folder, size) ?? await mounted(folder, size);

const isPossible = Deno.build.os === "linux" && await withTempDir(async (folder) => {
  await using disk = await open(folder, "64k");
  return disk !== undefined;
});

/** A test with a folder on a disk of so many KiB, and one on the usual disk. */
export function smallDiskTest(
  name: string,
  kib: number,
  fn: (disk: string, dir: string) => Promise<void>,
): void {
  Deno.test({
    name,
    ignore: !isPossible,
    fn: () =>
      withTempDir((mountPoint) =>
        withTempDir(async (dir) => {
          await using disk = await open(mountPoint, `${kib}k`);
          await fn(disk!.path, dir);
        })
      ),
  });
}

/** Takes room until `left` KiB are free, or as long as any is. Returns how to give it back. */
export function takeRoom(disk: string, left: number): () => void {
  const path = `${disk}/ballast`, page = new Uint8Array(4096);
  {
    using file = Deno.openSync(path, { create: true, append: true });
    try {
      for (;;) file.writeSync(page);
    } catch (error) {
      if (!(error instanceof Error) || Reflect.get(error, "code") !== "ENOSPC") throw error;
    }
  }
  Deno.truncateSync(path, Math.max(0, Deno.statSync(path).size - left * 1024));
  return () => Deno.removeSync(path);
}
