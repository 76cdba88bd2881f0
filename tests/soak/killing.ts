/** A run that is killed again and again at random moments, held against one that nothing disturbed. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { philox, unitInterval } from "../../core/graph/mod.ts";
import { startQuern } from "../support.ts";
import { cpuOptions, makeProject, run } from "../cli/tiny_project.ts";
import { sums, tinyTuning, writePairs } from "../core/sft/tiny_sft.ts";

export interface KillingOptions {
  readonly kills: number;
  /** What trains; pretraining unless given. */
  readonly command?: "pretrain" | "sft";
  /** Of the moments. How far a process comes by then is the machine's business. */
  readonly seed: number;
  readonly say?: (line: string) => void;
}

/** What the kills met. */
export interface Killed {
  readonly kills: number;
  /** Kills within a save: a half-written checkpoint lay there. */
  readonly inSaves: number;
  /** Kills between a whole checkpoint and the pointer to it, or within writing a pointer. */
  readonly atPointers: number;
  /** Kills before there was any checkpoint. */
  readonly beforeFirst: number;
  readonly steps: number;
  /** SHA-256 of the last weights, the same in both runs. */
  readonly weights: string;
}

/** Much is written: most of such a run is saving. */
const settings = (steps: number) =>
  [
    `steps=${steps}`,
    "log_every=1",
    "validation={every: 3, max_tokens: 100}",
    "checkpoint={every: 1, keep: 2, keep_best: 1}",
    "samples={every: 5, max_tokens: 4}",
  ].flatMap((setting) => ["--set", setting]);

/** Trains once in peace and once under fire, and asserts that both come to the same bits. */
export async function killOften(dir: string, options: KillingOptions): Promise<Killed> {
  const { kills, seed, command = "pretrain", say = () => {} } = options;
  const steps = 10 + 5 * kills; // more than a process does before it is killed
  await makeProject(dir);
  const config = command === "sft" ? await makeTuning(dir) : "tiny.yaml";
  const args = [config, "--resume", "auto", ...settings(steps)];
  const began = performance.now();
  await run(dir, command, ...args, "--out", "peace");
  say(`undisturbed: ${steps} steps in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  const checkpoints = join(dir, "war/checkpoints");
  const met = { inSaves: 0, atPointers: 0, beforeFirst: 0 };
  for (let i = 0; i < kills; i++) {
    const [first, second] = uniforms(seed, i);
    const line = [command, ...args, "--out", "war"];
    const shot = { dir, args: line, ...aimOf(i, first), delay: second };
    await killOnce(shot);
    const names = namesIn(checkpoints);
    const saved = names.filter((name) => name.startsWith("step-"));
    if (saved.length === 0) met.beforeFirst++;
    if (names.some((name) => /^\.step-\d+\.partial/.test(name))) met.inSaves++;
    else if (await isAtPointer(checkpoints, names)) met.atPointers++;
    if ((i + 1) % 10 === 0) say(`${i + 1} kills, at ${newest(saved) ?? "no checkpoint"}`);
  }
  await run(dir, command, ...args, "--out", "war");
  const [peace, war] = [await contentsOf(join(dir, "peace")), await contentsOf(join(dir, "war"))];
  assert.deepEqual(war, peace);
  return { kills, ...met, steps, weights: peace[`checkpoints/step-${steps}/model.safetensors`] };
}

/** A base of two updates and conversations beside it; returns the config's name. */
async function makeTuning(dir: string): Promise<string> {
  await run(dir, "pretrain", "tiny.yaml", "--out", "base", "--set", "steps=2");
  const path = await writePairs(join(dir, "chat.jsonl"), sums(30));
  const { steps: _, ...config } = tinyTuning("base", path);
  const positions = { sequence_length: 32, samples: { prompts: ["1"] } };
  await Deno.writeTextFile(join(dir, "chat.yaml"), JSON.stringify({ ...config, ...positions }));
  return "chat.yaml";
}

/** Where a kill is aimed: anywhere in a process's start or its work, or at what lies there only while a save is under way. */
const aims = ["start", "work", "save", "pointer"] as const;
type Aim = typeof aims[number];

/** The first two meet a run without a checkpoint. */
function aimOf(kill: number, random: number): { aim: Aim; saves: number } {
  if (kill < 2) return { aim: kill === 0 ? "start" : "save", saves: 0 };
  const aim = random < 0.15 ? "start" : random < 0.5 ? "work" : random < 0.85 ? "save" : "pointer";
  return { aim, saves: aim === "start" ? 0 : 1 + Math.floor(300 * random) % 3 };
}

interface Shot {
  readonly dir: string;
  readonly args: readonly string[];
  readonly aim: Aim;
  /** Checkpoints that are waited for first. */
  readonly saves: number;
  /** In [0, 1): how much later. */
  readonly delay: number;
}

/** One process, killed at its moment. */
async function killOnce({ dir, args, aim, saves, delay }: Shot): Promise<void> {
  const child = startQuern([...args, ...cpuOptions, "--json"], { cwd: dir });
  const stderr = new Response(child.stderr).text();
  let seen = 0, isOver = false;
  void child.status.then(() => isOver = true);
  const reading = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      seen += text.split('"kind":"checkpoint"').length - 1;
    }
  })();
  const partial = { save: /^\.step-\d+\.partial/, pointer: /^\.(latest|best)\.partial/ };
  const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
  const until = async (condition: () => boolean) => {
    while (!condition() && !isOver) await pause(0);
  };
  await until(() => seen >= saves);
  if (aim === "save" || aim === "pointer") {
    const ours = (name: string) => partial[aim].test(name) && name.includes(`-${child.pid}-`);
    await until(() => namesIn(join(dir, "war/checkpoints")).some(ours));
  }
  // a whole start; about a step and its save; within a save
  await pause(delay * { start: 1200, work: 60, save: 12, pointer: 2 }[aim]);
  if (!isOver) child.kill("SIGKILL");
  const { signal } = await child.status;
  await reading;
  if (signal !== "SIGKILL") throw new Error(`it ended before it was killed: ${await stderr}`);
  await stderr;
}

function uniforms(seed: number, kill: number): number[] {
  return philox(kill, 0, 0, 0, seed, 0).map(unitInterval);
}

function namesIn(folder: string): string[] {
  try {
    return Array.from(Deno.readDirSync(folder), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function newest(saved: readonly string[]): string | undefined {
  const stepOf = (name: string) => Number(name.slice("step-".length));
  return saved.toSorted((a, b) => stepOf(b) - stepOf(a))[0];
}

async function isAtPointer(folder: string, names: readonly string[]): Promise<boolean> {
  if (names.some((name) => /^\.(latest|best)\.partial/.test(name))) return true;
  const last = newest(names.filter((name) => name.startsWith("step-")));
  if (last === undefined) return false;
  const pointer = await Deno.readTextFile(join(folder, "latest")).catch(() => "");
  return pointer.trim() !== last;
}

/** What a run's folder holds that may not depend on when it was stopped: hashes, and lines without their speeds. */
async function contentsOf(run: string): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  const collect = async (folder: string, prefix: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      const path = join(folder, name), key = prefix + name;
      if (isDirectory) await collect(path, `${key}/`);
      else if (key === "metrics.jsonl") contents[key] = withoutSpeed(await Deno.readTextFile(path));
      else if (key !== "manifest.json" && key !== "report.html") { // they tell of the processes
        contents[key] = createHash("sha256").update(await Deno.readFile(path)).digest("hex");
      }
    }
  };
  await collect(run, "");
  return contents;
}

function withoutSpeed(lines: string): string {
  return lines.replaceAll(/,"tokens_per_second":\d+/g, "");
}
