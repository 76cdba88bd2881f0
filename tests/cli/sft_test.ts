import assert from "node:assert/strict";
import { join } from "node:path";
import { parse } from "yaml";
import { sums, writePairs } from "../core/sft/tiny_sft.ts";
import { quern, withTempDir } from "../support.ts";
import { attempt, cpuOptions, makeProject, run } from "./tiny_project.ts";

const config = `
kind: sft
data: { path: chat.jsonl, validation: { fraction: 0.2 } }
sequence_length: 32
batch_size: 4
epochs: 2
optimizer: { kind: adamw, learning_rate: { kind: cosine, peak: 0.01 } }
beginning: null
validation: { every: 5 }
samples: { every: 5, prompts: ["1+1?"], max_tokens: 4, temperature: 0 }
log_every: 1
`;

const tune = (...args: string[]) => ["sft", ...args];

Deno.test("quern sft: from a run to a chat; says what it decided, goes on, and refuses what is not its own", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--out", "base", "--set", "steps=2");
    await writePairs(join(dir, "chat.jsonl"), sums(30));
    await Deno.writeTextFile(join(dir, "chat.yaml"), config);

    const nothing = await attempt(dir, ...tune("chat.yaml"));
    assert.equal(nothing.code, 2);
    assert.match(nothing.stderr, /^error: from: what is to be tuned\?$/m);

    const shown = await run(dir, ...tune("chat.yaml", "--from", "base", "--show", "2"));
    assert.match(shown.stdout, /<\|im_start\|>assistant\n⟦0<\|im_end\|>⟧/);
    assert.match(shown.stdout, /2 conversations read: 2 whole/);

    const ids = await attempt(dir, ...tune("chat.yaml", "--from", "base", "--ids"));
    assert.match(ids.stderr, /^error: --ids is of what --show shows$/m);

    const freeze = ["--freeze", "layers.*.mlp"];
    const steps = ["--set", "steps=1"]; // in place of the config's epochs
    const dry = await run(
      dir,
      ...tune(...freeze, "chat.yaml", "--from", "base", ...steps, "--dry-run"),
    );
    assert.match(dry.stdout, /^the run +1 update:/m);
    assert.match(dry.stdout, /^ +matrix +1,152 +in 3 tensors, frozen, weight decay 0$/m);
    const left = Array.from(Deno.readDirSync(dir), ({ name }) => name);
    assert.deepEqual(left.filter((name) => name === "runs" || name.startsWith(".")), []);

    const auto = ["--resume", "auto"]; // the same line begins and goes on
    const tuned = await run(dir, ...tune("chat.yaml", "--from", "base", ...auto, "--out", "tuned"));
    const { stderr } = tuned;
    assert.match(stderr, /^chat.jsonl: question_answer$/m);
    assert.match(stderr, /the tokenizer gets <\|im_start\|>, <\|im_end\|>/);
    assert.match(stderr, /^chat.jsonl: 30 conversations, 6 held out, .* of them learned$/m);
    assert.match(stderr, /^steps \d+ = epochs 2 × \d+ rows \/ batch_size 4$/m);
    assert.match(stderr, /^step 5: sample, seed \d+\n {2}user: 1\+1\?\n {2}assistant: /m);
    assert.match(tuned.stdout, /^tuned: step \d+, validation loss [\d.]+/);

    const { epochs } = parse(await Deno.readTextFile(join(dir, "tuned", "config.yaml")));
    assert.equal(epochs, undefined, "steps alone say how long a run is: --resume may change them");

    const taken = await attempt(dir, ...tune("chat.yaml", "--from", "base", "--out", "tuned"));
    assert.match(taken.stderr, /hint: go on with it: quern sft --resume tuned/);
    const longer = await run(dir, ...tune("--resume", "tuned", "--set", "epochs=3"));
    assert.match(longer.stderr, /^tuned: going on from step \d+ of \d+ steps/m);
    const other = await attempt(dir, ...tune("--resume", "tuned", "--set", "data.overlong=drop"));
    assert.match(other.stderr, /^error: tuned: what the run trains on cannot change/m);

    const pretrain = await attempt(dir, "pretrain", "--resume", "tuned");
    assert.match(
      pretrain.stderr,
      /^error: tuned: it is a run of quern sft\nhint: .*quern sft --resume tuned$/m,
    );
    const wrong = await attempt(dir, "pretrain", "chat.yaml");
    assert.match(wrong.stderr, /^error: chat.yaml: this is a config of quern sft$/m);
    const checked = await run(dir, "config", "check", "chat.yaml", "tiny.yaml");
    assert.equal(checked.stdout, "chat.yaml: ok\ntiny.yaml: ok\n");

    const said = await quern(["generate", "tuned", "1+1?", "--max-tokens", "2", ...cpuOptions], {
      cwd: dir,
    });
    assert.equal(said.code, 0, said.stderr);
  }));
