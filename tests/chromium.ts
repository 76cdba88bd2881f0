/**
 * A headless Chromium for tests of pages, where one is installed: what it complains of, what a page holds.
 *
 * @module
 */
import { rm } from "node:fs/promises";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/** The first browser on the PATH; undefined where there is none. */
export function findChromium(): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  return folders.flatMap((folder) => names.map((name) => `${folder}/${name}`)).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

export interface View {
  readonly width: number;
  readonly height: number;
  readonly dark?: boolean;
  readonly mobile?: boolean;
}

/** In pixels of the page. */
export interface Clip {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** One page of a browser. */
export interface Tab {
  open(url: string, view: View): Promise<void>;
  /** The value of an expression, as JSON carries it; of a promise, what it comes to. */
  evaluate<T>(expression: string): Promise<T>;
  /** The whole page, or a part of it, as PNG. */
  screenshot(path: string, clip?: Clip): Promise<void>;
  /** Everything that the console, the network or a policy complained of since the last `open`. */
  readonly complaints: string[];
}

/** Runs a browser with a profile of its own for as long as `use` takes. */
export async function withChromium<T>(use: (tab: Tab) => Promise<T>): Promise<T> {
  const profile = await Deno.makeTempDir({ prefix: "quern-test-" });
  const browser = new Deno.Command(findChromium()!, {
    env: { XDG_RUNTIME_DIR: profile }, // it puts settings there
    args: [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"],
      ...["--disable-background-networking", "--disable-dev-shm-usage", "--use-mock-keychain"],
      ...["--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"],
    ],
    stdout: "null",
    stderr: "piped",
  }).spawn();
  try {
    const port = await portOf(browser);
    const targets = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
    const { webSocketDebuggerUrl } = targets.find(({ type }: { type: string }) => type === "page");
    using connection = await connect(webSocketDebuggerUrl);
    const result = await use(await tabOf(connection));
    await connection.call("Browser.close");
    return result;
  } catch (error) {
    browser.kill("SIGKILL");
    throw error;
  } finally {
    await browser.status;
    // processes of it may still write there for a moment
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Read from what it says at its start. */
async function portOf(browser: Deno.ChildProcess): Promise<string> {
  const reader = browser.stderr.getReader(), decoder = new TextDecoder();
  for (let said = "";;) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the browser ended: ${said}`);
    said += decoder.decode(value, { stream: true });
    const port = said.match(/DevTools listening on ws:\/\/[^:]+:(\d+)\//)?.[1];
    if (port === undefined) continue;
    void (async () => {
      while (!(await reader.read()).done); // else the pipe fills
    })();
    return port;
  }
}

type Params = Readonly<Record<string, unknown>>;

interface Connection extends Disposable {
  // deno-lint-ignore no-explicit-any -- what a method answers, its protocol says
  call(method: string, params?: Params): Promise<any>;
  // deno-lint-ignore no-explicit-any
  on(method: string, listener: (params: any) => void): void;
}

/** The Chrome DevTools protocol over its socket. */
async function connect(url: string): Promise<Connection> {
  const socket = new WebSocket(url), waiting = new Map<number, PromiseWithResolvers<unknown>>();
  const listeners = new Map<string, (params: unknown) => void>();
  let last = 0;
  socket.onmessage = ({ data }) => {
    const { id, method, params, result, error } = JSON.parse(data);
    if (id === undefined) return listeners.get(method)?.(params);
    if (error) waiting.get(id)?.reject(new Error(error.message));
    else waiting.get(id)?.resolve(result);
    waiting.delete(id);
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return {
    call(method, params = {}) {
      const id = ++last, answer = Promise.withResolvers<unknown>();
      waiting.set(id, answer);
      socket.send(JSON.stringify({ id, method, params }));
      return answer.promise;
    },
    on: (method, listener) => void listeners.set(method, listener),
    [Symbol.dispose]: () => socket.close(),
  };
}

async function tabOf({ call, on }: Connection): Promise<Tab> {
  const complaints: string[] = [];
  let loaded = Promise.withResolvers<void>();
  on("Page.loadEventFired", () => loaded.resolve());
  on("Log.entryAdded", ({ entry }) => complaints.push(`${entry.level}: ${entry.text}`));
  on("Runtime.consoleAPICalled", ({ type, args }) => {
    complaints.push(`${type}: ${args.map((arg: { value?: unknown }) => arg.value).join(" ")}`);
  });
  on("Runtime.exceptionThrown", ({ exceptionDetails: { text, exception } }) => {
    complaints.push(`${text} ${exception?.description ?? ""}`);
  });
  for (const domain of ["Page", "Runtime", "Log"]) await call(`${domain}.enable`);
  return {
    complaints,
    async open(url, { width, height, dark = false, mobile = false }) {
      await call("Emulation.setDeviceMetricsOverride", {
        ...{ width, height, mobile, deviceScaleFactor: 1 },
      });
      await call("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
      });
      complaints.length = 0;
      loaded = Promise.withResolvers();
      await call("Page.navigate", { url });
      await loaded.promise;
    },
    async evaluate(expression) {
      const { result, exceptionDetails } = await call("Runtime.evaluate", {
        ...{ expression, awaitPromise: true, returnByValue: true },
      });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description);
      return result.value;
    },
    async screenshot(path, clip) {
      const { data } = await call("Page.captureScreenshot", {
        captureBeyondViewport: clip === undefined,
        ...(clip && { clip: { ...clip, scale: 1 } }),
      });
      await Deno.writeFile(path, Uint8Array.fromBase64(data));
    },
  };
}
