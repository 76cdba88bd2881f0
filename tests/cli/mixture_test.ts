import assert from "node:assert/strict";
import { join } from "node:path";
import { makeCorpus } from "../../core/data/corpus.ts";
import { checkpointBytes } from "../core/train/tiny_run.ts";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run, tinyYaml } from "./tiny_project.ts";

const mixedYaml = tinyYaml.replace(
  "  path: data\n",
  `  sources:
    - { path: data, weight: 3 }
    - { path: more/tales, weight: { kind: linear, peak: 2, end: 1 } }
`,
);

/** The tiny project with a second folder, of which nothing is held out, and `mixed.yaml`. */
async function makeMixedProject(dir: string): Promise<void> {
  await makeProject(dir);
  await Deno.writeTextFile(join(dir, "mixed.yaml"), mixedYaml);
  const { documents } = makeCorpus({ seed: 6, bytes: 4000 });
  await Deno.writeTextFile(join(dir, "tales.txt"), documents.join("\n"));
  const separator = ["--document-separator", "\\n", "--val-fraction", "0"];
  await run(dir, "tokenize", "tales.txt", "--out", "more/tales", ...separator);
}

Deno.test("pretrain: two sources, from the dry run to a resumed end, as a user types it", () =>
  withTempDir(async (dir) => {
    await makeMixedProject(dir);
    const dry = await run(dir, "pretrain", "mixed.yaml", "--dry-run");
    assert.match(
      dry.stdout,
      /^data\n {2}data +66\.6 % {2}from 60\.0 % to 74\.1 %, 1\.7 k tokens, 0\.3\d+ epochs\n {2}tales +33\.4 % {2}from 40\.0 % to 25\.9 %/m,
    );
    const { stdout, stderr } = await run(dir, "pretrain", "mixed.yaml", "--out", "whole");
    assert.match(stderr, /^no validation loss of tales: it holds nothing out/m);
    assert.match(
      stdout,
      /^whole: step 20, validation loss (.*) bits a byte \(data \1\), .* s\ntokens: data 1,[67]\d\d \(6\d\.\d %\), tales 8\d\d \(3\d\.\d %\)$/m,
    );

    const first = await run(dir, "pretrain", "mixed.yaml", "--set", "steps=20", "--json");
    const events = first.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    const steps = events.filter(({ kind }) => kind === "step");
    for (const { tokens, tokens_by_source: by } of steps) assert.equal(by.data + by.tales, tokens);
    const validation = events.find(({ kind }) => kind === "validation");
    const { bits_per_byte, loss, targets } = validation;
    assert.deepEqual(validation.by_source, { data: { loss, targets, bits_per_byte } });
    assert.deepEqual(events.at(-1).tokens_by_source, steps.at(-1).tokens_by_source);

    // from another folder, and from the middle
    await Deno.mkdir(join(dir, "elsewhere"));
    const middle = ["--resume", join(dir, "runs/mixed/checkpoints/step-15")];
    const resumed = await run(join(dir, "elsewhere"), "pretrain", ...middle);
    assert.match(resumed.stderr, /^data\.sources\.1\.path more\/tales is not here; taken from/m);
    assert.deepEqual(
      await checkpointBytes(join(dir, "runs/mixed"), 20),
      await checkpointBytes(join(dir, "whole"), 20),
    );
    const more = ["--resume", "runs/mixed", "--set", "steps=21"];
    await Deno.rename(join(dir, "more/tales"), join(dir, "gone"));
    const missing = await attempt(dir, "pretrain", ...more);
    assert.match(missing.stderr, /^error: more\/tales: there is no such folder/m);
    await run(dir, "pretrain", ...more, "--set", "data.sources.1.path=gone");
  }));

Deno.test("pretrain: faults of sources are shown where they stand, with exit code 2", () =>
  withTempDir(async (dir) => {
    await makeMixedProject(dir);
    const refused = async (pattern: RegExp, ...set: string[]) => {
      const args = set.flatMap((one) => ["--set", one]);
      const { code, stderr } = await attempt(dir, "pretrain", "mixed.yaml", ...args);
      assert.match(stderr, pattern);
      assert.equal(code, 2, stderr);
    };
    await refused(/mixed\.yaml:9:5: data\.sources: there is a path, too/, "data.path=data");
    await refused(
      /--set data\.sources\.0\.wait=1: unknown key.*\n.*weight/,
      "data.sources.0.wait=1",
    );
    await refused(
      /--set data=.*: data\.sources: every weight is 0 at step 0/,
      "data={sources: [{path: data, weight: 0}]}",
    );
    const letters = ["letters.txt", "--out", "letters", "--tokenizer", "character"];
    await Deno.writeTextFile(join(dir, "letters.txt"), "a few letters ".repeat(20));
    await run(dir, "tokenize", ...letters);
    await refused(
      /letters: made with the tokenizer character \w{12} .* but data with byte \w{12}/,
      "data.sources.1.path=letters",
    );
  }));

Deno.test("pretrain: the dry run says how many epochs a run of one folder makes", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const dry = async (...args: string[]) =>
      (await run(dir, "pretrain", "tiny.yaml", "--dry-run", ...args)).stdout;
    assert.match(await dry(), /^data {18}data: 0\.4\d\d epochs$/m);
    assert.match(
      await dry("--set", "data.packing=windows", "--set", "steps=200"),
      /^data {18}data: random windows, 4\.\d\d times its length$/m,
    );
    const [source] = JSON.parse(await dry("--json")).data;
    assert.equal(source.tokens, 20 * 4 * 32);
    assert.equal(source.share, 1);
    await Deno.rename(join(dir, "data"), join(dir, "gone"));
    assert.match(await dry("--set", "model.vocab_size=257"), /^data {18}data: data is not here$/m);
  }));
