/**
 * What the tests share: data that may be absent, a GPU that may be absent, temporary folders.
 *
 * A test that cannot run here is registered as ignored, so that the closing line counts it.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The repository's root, with a closing slash. */
export const root = fileURLToPath(new URL("../", import.meta.url));

type TestBody = (t: Deno.TestContext) => void | Promise<void>;

/**
 * The path of a file of `../shared`, data that may lie beside the checkout; undefined if it does
 * not.
 */
export function sharedPath(...parts: string[]): string | undefined {
  const path = fileURLToPath(new URL(`../../shared/${parts.join("/")}`, import.meta.url));
  return existsSync(path) ? path : undefined;
}

/**
 * A test that reads files of `../shared`, given their paths in order; ignored where one is absent.
 */
export function testWithShared(
  name: string,
  files: string[],
  fn: (paths: string[], t: Deno.TestContext) => void | Promise<void>,
): void {
  const paths = files.flatMap((file) => sharedPath(file) ?? []);
  const ignore = paths.length < files.length;
  Deno.test({ name, ignore, fn: (t) => fn(paths, t) });
}

/**
 * Whether WebGPU may be used: `tests/run.ts` probes and says; a bare `deno test` assumes that it
 * may.
 */
export const webgpuAvailable = Deno.env.get("QUERN_TEST_WEBGPU") !== "0";

/** A test that needs a WebGPU adapter; ignored where there is none. */
export function webgpuTest(name: string, fn: TestBody): void {
  Deno.test({ name, ignore: !webgpuAvailable, fn });
}

/** Runs `use` with a new folder that is gone afterwards. */
export async function withTempDir<T>(use: (dir: string) => T | Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir({ prefix: "quern-test-" });
  try {
    return await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** What a finished `quern` process left behind. */
export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Where a `quern` process runs, and what it finds in its environment. */
export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string>;
}

/** Starts `quern` as a process of its own, both outputs piped. */
export function startQuern(args: string[], { cwd, env }: CommandOptions = {}): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `--config=${root}deno.json`, `${root}cli/main.ts`, ...args],
    env: { NO_COLOR: "1", ...env },
    ...(cwd === undefined ? {} : { cwd }),
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs `quern` as a user would: a process of its own, in `cwd`, its output read from the pipes. */
export async function quern(args: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { code, stdout, stderr } = await startQuern(args, options).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
