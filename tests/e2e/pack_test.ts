/**
 * The packed file where nothing else is: no Deno, no sources, an empty home, and of the system's
 * programs only those that it says it needs.
 *
 * @module
 */
import assert from "node:assert/strict";
import { copyFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { type CommandResult, root, withTempDir } from "../support.ts";

const config = `
model: { hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 24 }
data: { path: "the data" }
sequence_length: 16
batch_size: 64
steps: 4
optimizer: { kind: adamw, learning_rate: 1.0e-3 }
validation: { every: 4 }
log_every: 2
`;

/** Those that README says it needs. */
async function programs(): Promise<string[]> {
  const text = await Deno.readTextFile(`${root}README.md`);
  const [, list] = text.match(/what every Debian has\s+\(([^)]*)\)/)!;
  return [...list.matchAll(/`(\w+)`/g)].map(([, name]) => name);
}

async function run(command: string, args: string[], options: Deno.CommandOptions) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, ...options }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Where a packed file is tried: a folder with the file, the few programs and no environment. */
interface Bench {
  packed: string;
  /** Starts a packed file with `home` as its only environment. */
  start(file: string, home: string, ...args: string[]): Promise<CommandResult>;
  cacheOf(home: string): string[];
}

async function makeBench(dir: string): Promise<Bench> {
  const packed = join(dir, "my quern");
  const packing = ["run", "-A", "tools/pack.ts", "--out", packed, "--level", "1"];
  const { code, stdout, stderr } = await run(Deno.execPath(), packing, { cwd: root });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /my quern: \d+\.\d MB\n$/);
  await Deno.mkdir(join(dir, "bin"));
  const path = (Deno.env.get("PATH") ?? "").split(":");
  for (const program of await programs()) {
    const found = path.map((folder) => join(folder, program)).find((file) => {
      try {
        return Deno.statSync(file).isFile;
      } catch {
        return false;
      }
    });
    assert.ok(found, `${program} is not on PATH`);
    await Deno.symlink(found, join(dir, "bin", program));
  }
  return {
    packed,
    start: (file, home, ...args) =>
      run(file, args, {
        cwd: dir,
        clearEnv: true,
        env: { HOME: join(dir, home), PATH: join(dir, "bin"), NO_COLOR: "1" },
      }),
    cacheOf: (home) =>
      [...Deno.readDirSync(join(dir, home, ".cache/quern"))].map(({ name }) => name),
  };
}

Deno.test({
  name: "the packed file needs no Deno, no sources and no environment",
  ignore: Deno.build.os !== "linux",
  fn: (t) =>
    withTempDir(async (dir) => {
      const { packed, start, cacheOf } = await makeBench(dir);

      await t.step("programs that are not there are named before anything is written", async () => {
        const bin = join(dir, "bin"), away = join(dir, "away");
        await Deno.mkdir(away);
        await Deno.mkdir(join(dir, "bare"));
        for (const name of ["uname", "rm"]) await Deno.rename(join(bin, name), join(away, name));
        const { code, stdout, stderr } = await start(packed, "bare", "--version");
        for (const name of ["uname", "rm"]) await Deno.rename(join(away, name), join(bin, name));
        assert.deepEqual([code, stdout], [1, ""]);
        assert.match(stderr, /^error: quern needs [^\n]*: uname rm\n$/);
        assert.deepEqual([...Deno.readDirSync(join(dir, "bare"))], []);
      });

      await t.step("two first starts at once unpack one copy", async () => {
        const both = await Promise.all([1, 2].map(() => start(packed, "home", "--version")));
        for (const { code, stdout, stderr } of both) {
          assert.deepEqual([code, stderr], [0, ""]);
          assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
        }
        assert.equal(cacheOf("home").length, 1, cacheOf("home").join());
        const place = join(dir, "home/.cache/quern", cacheOf("home")[0]);
        const inside = [...Deno.readDirSync(place)].map(({ name }) => name).sort();
        assert.deepEqual(inside.filter((name) => name !== "cache"), ["LICENSE", "app", "deno"]);
        const app = join(place, "app");
        for (const { name } of Deno.readDirSync(app)) {
          const text = await Deno.readTextFile(join(app, name));
          assert.ok(!text.includes(root), `${name} names the folder of the sources`);
        }
      });

      await t.step("it tokenizes, trains on two threads and generates", async () => {
        await Deno.writeTextFile(join(dir, "a text.txt"), "the cat sat on the mat. ".repeat(400));
        await Deno.writeTextFile(join(dir, "config.yaml"), config);
        // A home is often a Node project, too: none of its files may matter.
        await Deno.writeTextFile(join(dir, "home/package.json"), `{ "type": "commonjs" }`);
        await Deno.writeTextFile(join(dir, "home/deno.json"), "{");
        const cpu = ["--device", "cpu", "--threads", "2"];
        const lines = [
          ["tokenize", "a text.txt", "--out", "the data", "--tokenizer", "character"],
          ["pretrain", "config.yaml", "--out", "a run", ...cpu, "--blas", "off", "--quiet"],
          ["generate", "a run", "the  cat", "--max-tokens", "5", "--seed", "1", ...cpu],
        ];
        let last = "";
        for (const line of lines) {
          const { code, stdout, stderr } = await start(packed, "home", ...line);
          assert.equal(code, 0, `${line.join(" ")}: ${stderr}`);
          last = stdout;
        }
        assert.ok(last.startsWith("the  cat") && last.length > 9, last);
        assert.equal((await start(packed, "home", "generate", "nowhere", "x")).code, 2);
      });

      await t.step("clean removes the cache's other versions and nothing else", async () => {
        const cache = join(dir, "home/.cache/quern");
        const [current] = cacheOf("home");
        const others = [`0.0.9-${"a".repeat(16)}`, "new-Ab12Cd"].map((name) => join(cache, name));
        for (const folder of [...others, join(cache, "models")]) {
          await Deno.mkdir(join(folder, "app"), { recursive: true });
        }
        const { code, stdout, stderr } = await start(packed, "home", "clean");
        assert.deepEqual([code, stderr], [0, ""]);
        assert.equal(stdout, others.map((folder) => `removed ${folder}\n`).join(""));
        assert.deepEqual(cacheOf("home").sort(), [current, "models"]);
        const again = await start(packed, "home", "clean");
        assert.equal(again.stdout, `nothing to remove: ${cache} has no other version\n`);
      });

      await t.step("a file that is cut off says so and leaves nothing in the cache", async () => {
        const { size } = await Deno.stat(packed);
        for (const length of [Math.floor(size / 2), size - 4]) {
          const cut = join(dir, "cut");
          copyFileSync(packed, cut);
          truncateSync(cut, length);
          const { code, stdout, stderr } = await start(cut, "other", "--version");
          assert.deepEqual([code, stdout], [1, ""]);
          assert.equal(stderr, `error: ${cut} is damaged or not whole: get it again\n`);
          assert.deepEqual(cacheOf("other"), []);
        }
      });

      await t.step("a cache that cannot be written is one clear line", async () => {
        const { code, stderr } = await start(packed, "a text.txt", "--version");
        assert.equal(code, 1);
        assert.match(stderr, /^error: cannot write to .*: set XDG_CACHE_HOME to [^\n]*\n$/);
      });
    }),
});
