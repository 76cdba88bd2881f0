/**
 * The test command: sets up what the tests need, runs them, and ends with one plain line,
 * `N passed, N failed, N skipped`. Arguments are handed on to `deno test`; paths among them
 * replace the whole `tests/` folder.
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

/** Streams `deno test` to our own output and keeps its closing line's counts. */
async function runTests(args: string[], env: Record<string, string>) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", ...args],
    env,
    stdout: "piped",
  })
    .spawn();
  let tail = ""; // the closing line is among the last characters; failures above it may be long
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    await writeAll(bytes);
    tail = (tail + decoder.decode(bytes, { stream: true })).slice(-4096);
  }
  const { code } = await child.status;
  // deno-lint-ignore no-control-regex -- colours, should FORCE_COLOR be set
  const counts = tail.replaceAll(/\x1b\[[0-9;]*m/g, "").match(closingLine);
  return { code, counts: counts?.slice(1, 4).map((count) => Number(count ?? 0)) };
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

  const paths = Deno.args.some((arg) => arg.startsWith("tests/")) ? [] : ["tests/"];
  const { code, counts } = await runTests([...Deno.args, ...paths], {
    ...webgpuEnv,
    QUERN_TEST_WEBGPU: skipsWebgpu ? "0" : "1",
  });
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
