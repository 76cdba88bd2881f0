import assert from "node:assert/strict";
import { join } from "node:path";
import { branchKinds } from "../../cli/grow.ts";
import { branches } from "../../core/nn/mod.ts";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

const yaml = `
model:
  hidden_size: 16
  blocks:
    - repeat: 2
      mixer: { kind: attention, num_attention_heads: 2 }
      mlp:
        kind: polymorphic
        branches: [{ kind: swiglu, intermediate_size: 24 }, { kind: glu, intermediate_size: 8 }]
        router_size: 4
        tau: { kind: points, points: [[10, 2.2], ["100%", 1.4]] }
data:
  path: data
sequence_length: 32
batch_size: 4
steps: 20
optimizer:
  kind: adamw
  learning_rate: 0.003
log_every: 10
router_health:
  entropy_norm: { kind: points, points: [[0, 0.5], [15, 1]], interpolate: hold }
`;

const linesOf = (path: string) =>
  Deno.readTextFile(path).then((text) =>
    text.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)
  );

Deno.test("grow: a user's way from a routed model over its health to one with a branch more, and text from it", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await Deno.writeTextFile(join(dir, "routed.yaml"), yaml);
    const { stderr } = await run(dir, "pretrain", "routed.yaml");
    const lines = stderr.match(
      /^\[router\] alpha=\[0\.\d{3}, 0\.\d{3}\] entropy_norm=[01]\.\d{3}$/gm,
    );
    assert.equal(lines?.length, 2);
    const warnings = stderr.match(/^warning: step .*$/gm) ?? [];
    assert.equal(warnings.length, 1, stderr);
    assert.match(
      warnings[0],
      /^warning: step 20: the router's entropy_norm [01]\.\d{3} is below 1 \(router_health\.entropy_norm\)$/,
    );
    const [first, last] = (await linesOf(join(dir, "runs/routed/metrics.jsonl")))
      .filter(({ norm }) => norm !== undefined);
    assert.equal(first.router_health, undefined);
    assert.match((last.router_health as Record<string, string>).entropy_norm, /below 1$/);
    const shares = last["router.alpha"] as number[];
    assert.ok(Math.abs(shares[0] + shares[1] - 1) < 1e-5);

    const args = ["grow", "runs/routed", "--branch", "depthwise_conv", "--out", "grown"];
    const grown = await run(dir, ...args, "--alone", "5");
    assert.match(
      grown.stdout,
      /^grown: step 20; 2 layers with one more branch: depthwise_conv, 24 wide/,
    );
    const [, advice] = grown.stderr.match(/^go on: quern (.*)$/m)!;
    assert.equal(advice, "pretrain --resume grown --set steps=50");
    const { stdout } = await run(dir, ...advice.split(" "), "--json");
    const steps = stdout.trim().split("\n").map((line) => JSON.parse(line))
      .filter(({ kind }) => kind === "step");
    assert.deepEqual(steps.map(({ step }) => step), [30, 40, 50]);
    assert.equal(steps[0].watched["router.alpha"].length, 3);
    assert.match(steps[0].router_health.entropy_norm, /below 1$/);
    const text = await run(dir, "generate", "grown", "the", "--max-tokens", "5", "--seed", "1");
    assert.ok(text.stdout.length > 0);

    const taken = await attempt(dir, ...args);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /^error: grown: it exists already/m);
  }));

Deno.test("grow: what cannot be grown is said", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=1");
    const plain = await attempt(dir, "grow", "runs/tiny", "--branch", "glu", "--out", "grown");
    assert.equal(plain.code, 2);
    assert.match(plain.stderr, /^error: runs\/tiny: the model has no polymorphic mlp/m);
    const unknown = await attempt(dir, "grow", "runs/tiny", "--branch", "glue", "--out", "grown");
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /Allowed choices are swiglu, glu/);
  }));

Deno.test("grow: the help knows every kind of branch", () => {
  assert.deepEqual([...branchKinds].toSorted(), Object.keys(branches).toSorted());
});
