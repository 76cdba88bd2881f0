import assert from "node:assert/strict";
import { placeholder, spec, type Tensor } from "../../../core/graph/mod.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { penaltyNames, samplePenalized } from "../../../core/generate/penalties.ts";
import { webgpuTest } from "../../support.ts";
import { runGraph } from "../../support_device.ts";

/** Greedy choices, log-probabilities and new counts. */
async function choose(
  kind: "cpu" | "webgpu",
  [repetition, presence, frequency]: number[],
  rows: { logits: number[]; counts: number[] }[],
) {
  await using device = await openDevice({ device: kind, blas: "off" });
  const shape = [rows.length, rows[0].logits.length], values = new Map<Tensor, number[]>();
  const upload = (name: string, dims: number[], data: number[]) => {
    const tensor = placeholder(spec(dims), name, "upload");
    values.set(tensor, data);
    return tensor;
  };
  const logits = upload("logits", shape, rows.flatMap(({ logits }) => logits));
  const counts = upload("counts", shape, rows.flatMap(({ counts }) => counts));
  const uniform = upload("uniform", [rows.length], rows.map(() => 0.5));
  const settings = upload("settings", [4], [0, 0, 1, 0]);
  const scalars = [repetition, presence, frequency];
  const penalties = Object.fromEntries(
    penaltyNames.map((name, i) => [name, upload(name, [], [scalars[i]])]),
  ) as Record<typeof penaltyNames[number], Tensor>;
  const made = samplePenalized(logits, counts, penalties, [uniform, settings]);
  const outputs = await runGraph(device, [made.token, made.logprob, made.counts], values);
  return outputs.map((output) => Array.from(output));
}

async function checkChoices(kind: "cpu" | "webgpu"): Promise<void> {
  const logits = [2, 1.5, 1, -1, -Infinity], mass = logits.reduce((a, z) => a + Math.exp(z), 0);
  const rows = (...counts: number[][]) => counts.map((counts) => ({ logits, counts }));
  const cases: [number[], number[], number][] = [
    // penalties, counts, the token that is then the likeliest
    [[1, 0, 0], [9, 0, 0, 0, 0], 0],
    [[1.5, 0, 0], [1, 0, 0, 0, 0], 1],
    [[2, 0, 0], [1, 3, 0, 0, 0], 0], // 2 / 2 and 1.5 / 2 and 1: the first of equals
    [[1, 0.6, 0], [5, 0, 0, 0, 0], 1],
    [[1, 0.4, 0], [5, 0, 0, 0, 0], 0],
    [[1, 0, 0.2], [2, 0, 0, 0, 0], 0],
    [[1, 0, 0.2], [3, 0, 0, 0, 0], 1],
    [[100, 3, 0], [1, 1, 1, 0, 0], 3], // below 0 a logit is multiplied
    [[1, -9, 0], [0, 0, 0, 1, 0], 3],
  ];
  for (const [penalties, counts, wanted] of cases) {
    const [tokens, logprobs, after] = await choose(kind, penalties, rows(counts, [0, 0, 0, 0, 0]));
    assert.deepEqual(tokens, [wanted, 0], `${penalties} on ${counts}`);
    [wanted, 0].forEach((token, row) => {
      const own = logits[token] - Math.log(mass); // as if there were no penalties
      assert.ok(Math.abs(logprobs[row] - own) < 1e-5, `${logprobs[row]} for ${own}`);
    });
    const counted = counts.map((count, id) => count + Number(id === wanted));
    assert.deepEqual(after, [...counted, 1, 0, 0, 0, 0]);
  }
}

Deno.test("penalties: what is chosen, told and counted, on the cpu", () => checkChoices("cpu"));
webgpuTest("penalties: what is chosen, told and counted, on WebGPU", () => checkChoices("webgpu"));
