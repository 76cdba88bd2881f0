/**
 * The test command: sets up what the tests need, runs them, and ends with one plain line,
 * `N passed, N failed, N skipped`. Arguments are handed on to `deno test`; paths among them
 * replace the whole `tests/` folder.
 *
 * The whole folder is run in two processes at once, with the type check as a third: tests of commands wait for
 * processes most of the time, and would leave a core idle.
 *
 * @module
 */

/**
 * On Linux Vulkan or nothing: the GL adapter that would be taken otherwise lacks f16 and half the
 * storage buffers. Mesa complains about a missing XDG_RUNTIME_DIR; any folder will do.
 */
const webgpuEnv: Record<string, string> = Deno.build.os === "linux"
  ? { DENO_WEBGPU_BACKEND: "vulkan", XDG_RUNTIME_DIR: Deno.cwd() }
  : {};

const closingLine =
  /(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \(\d+ steps?\))?(?: \| (\d+) ignored)?/;

/**
 * The adapter's name as a new process sees it (the choice is made once per process), or undefined.
 */
async function probeAdapter(): Promise<string | undefined> {
  const program = `const a = await navigator.gpu?.requestAdapter();
    console.log(a ? a.info.description || a.info.vendor || "unnamed adapter" : "")`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", program],
    env: webgpuEnv,
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).trim() || undefined;
}

/** Installs Mesa's software Vulkan driver where apt and root allow it; says what it did. */
async function installDriver(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const packages = ["mesa-vulkan-drivers", "libvulkan1"];
  say(`no Vulkan adapter: installing ${packages.join(" and ")} with apt-get`);
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", ...packages]]) {
    try {
      const { success, stderr } = await new Deno.Command("apt-get", { args, env, stdout: "null" })
        .output();
      if (success) continue;
      say(`apt-get ${args[0]} failed:\n${new TextDecoder().decode(stderr).trim()}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      say("there is no apt-get here");
    }
    return false;
  }
  return true;
}

/** What a process came to; `counts` are passed, failed and skipped tests, of its closing line. */
interface Outcome {
  readonly code: number;
  readonly counts?: readonly number[] | undefined;
}

/** Runs `deno` and keeps its closing line's counts. What it prints comes at once, or whole when it is done. */
async function runDeno(
  args: readonly string[],
  env: Record<string, string>,
  output: "stream" | "whole",
): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), { args: [...args], env, stdout: "piped" })
    .spawn();
  let tail = ""; // the closing line is among the last characters; failures above it may be long
  const decoder = new TextDecoder(), held: Uint8Array[] = [];
  for await (const bytes of child.stdout) {
    if (output === "stream") await writeAll(bytes);
    else held.push(bytes);
    tail = (tail + decoder.decode(bytes, { stream: true })).slice(-4096);
  }
  const { code } = await child.status;
  for (const bytes of held) await writeAll(bytes);
  // deno-lint-ignore no-control-regex -- colours, should FORCE_COLOR be set
  const counts = tail.replaceAll(/\x1b\[[0-9;]*m/g, "").match(closingLine);
  return { code, counts: counts?.slice(1, 4).map((count) => Number(count ?? 0)) };
}

/** Tests that run commands, each in processes of its own. */
const ofCommands = ["cli", "e2e", "readme_test.ts"];

/** The whole folder, in two parts, and whether it is typed right. */
async function runAll(args: readonly string[], env: Record<string, string>): Promise<Outcome> {
  const names = (await Array.fromAsync(Deno.readDir("tests"))).filter(({ name, isDirectory }) =>
    isDirectory || name.endsWith("_test.ts")
  ).map(({ name }) => name).sort();
  const test = (names: readonly string[], output: "stream" | "whole") =>
    runDeno(
      ["test", "-A", "--no-check", ...args, ...names.map((name) => `tests/${name}`)],
      env,
      output,
    );
  const [check, ...parts] = await Promise.all([
    runDeno(["check"], {}, "whole"),
    test(names.filter((name) => !ofCommands.includes(name)), "stream"),
    test(ofCommands, "whole"),
  ]);
  if (check.code !== 0) say("the type check failed");
  const isWhole = parts.every(({ counts }) => counts !== undefined);
  return {
    code: [check, ...parts].find(({ code }) => code !== 0)?.code ?? 0,
    counts: isWhole
      ? [0, 1, 2].map((i) => parts.reduce((sum, { counts }) => sum + counts![i], 0))
      : undefined,
  };
}

async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await Deno.stdout.write(bytes.subarray(done));
}

function say(message: string): void {
  console.error(`tests: ${message}`);
}

async function main(): Promise<number> {
  let adapter = await probeAdapter();
  if (adapter === undefined && await installDriver()) adapter = await probeAdapter();
  const skipsWebgpu = adapter === undefined;
  const banner = `${"!".repeat(78)}\n!! No WebGPU adapter here: ` +
    `the WebGPU tests are SKIPPED and counted as such.\n${"!".repeat(78)}`;
  if (skipsWebgpu) console.error(banner);
  else say(`WebGPU runs on ${adapter}`);

  const isPart = Deno.args.some((arg) => arg.startsWith("tests/"));
  const env = { ...webgpuEnv, QUERN_TEST_WEBGPU: skipsWebgpu ? "0" : "1" };
  const { code, counts } = isPart
    ? await runDeno(["test", "-A", ...Deno.args], env, "stream")
    : await runAll(Deno.args, env);
  if (skipsWebgpu) console.error(banner);
  if (counts === undefined) {
    say(`deno test ended with code ${code} and no closing line`);
    return code || 1;
  }
  const [passed, failed, skipped] = counts;
  if (passed + failed === 0) say("no test ran");
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return code || (passed + failed === 0 ? 1 : 0);
}

Deno.exit(await main());
