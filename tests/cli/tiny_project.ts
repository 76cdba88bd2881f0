/** A folder as a user has it: a text, its shards, a config. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeCorpus } from "../../core/data/corpus.ts";
import { type CommandResult, quern, startQuern } from "../support.ts";

/** The device that tests train on: the same everywhere. */
export const cpuOptions = ["--device", "cpu", "--threads", "1", "--blas", "off"];

export const tinyYaml = `
model:
  hidden_size: 16
  num_hidden_layers: 1
  num_attention_heads: 2
  intermediate_size: 24
data:
  path: data
sequence_length: 32
batch_size: 4
steps: 20
optimizer:
  kind: adamw
  learning_rate: { kind: cosine, peak: 0.01, end: 0.001, warmup: 2 }
checkpoint: { every: 5 }
log_every: 5
`;

/** Writes `corpus.txt` and `tiny.yaml`, and tokenizes to `data`. */
export async function makeProject(dir: string): Promise<void> {
  const { documents } = makeCorpus({ seed: 5, bytes: 6000 });
  await Deno.writeTextFile(join(dir, "corpus.txt"), documents.join("\n"));
  await Deno.writeTextFile(join(dir, "tiny.yaml"), tinyYaml);
  await run(dir, "tokenize", "corpus.txt", "--out", "data", "--document-separator", "\\n");
}

/** Runs a command that must succeed, on the cpu device with one thread where it takes one. */
export async function run(dir: string, ...args: string[]): Promise<CommandResult> {
  const result = await quern([...args, ...deviceOf(args)], { cwd: dir });
  assert.equal(result.code, 0, result.stderr);
  return result;
}

/** Runs a command that may fail. */
export function attempt(dir: string, ...args: string[]): Promise<CommandResult> {
  return quern([...args, ...deviceOf(args)], { cwd: dir });
}

function deviceOf([command]: string[]): string[] {
  const computes = ["pretrain", "sft", "generate", "eval", "quickstart"].includes(command);
  return computes ? cpuOptions : [];
}

/** A training process, once it has told of the first event of a kind. */
export async function startTraining(
  cwd: string,
  args: string[],
  kind: "step" | "checkpoint",
): Promise<Deno.ChildProcess> {
  const child = startQuern(["pretrain", ...args, ...cpuOptions, "--json"], { cwd });
  const reader = child.stdout.getReader(), text = new TextDecoder();
  for (let told = ""; !told.includes(`"kind":"${kind}"`);) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`it ended after ${told}${await new Response(child.stderr).text()}`);
    told += text.decode(value, { stream: true });
  }
  // the pipe must not fill while the process goes on
  void (async () => {
    while (!(await reader.read()).done);
  })();
  return child;
}
