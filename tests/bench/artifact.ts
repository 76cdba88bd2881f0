/**
 * What a small Recycled-core costs in bits per byte once it is packed: int6 and int5, as quern packs and as published, with
 * and without a run that saw it coming. `deno run -A tests/bench/artifact.ts [tinyshakespeare.txt]`
 */

import { quern, sharedPath, withTempDir } from "../support.ts";

const text = Deno.args[0] ?? sharedPath("data", "tinyshakespeare.txt");

/** An export of one of the runs; at most so many percent more bits per byte are asked. */
interface Trial {
  readonly run: "plain" | "qat";
  readonly name: string;
  readonly options: readonly string[];
  readonly most?: number;
}

const trials: readonly Trial[] = [
  { run: "plain", name: "int6", options: ["--matrices", "int6"], most: 1 },
  { run: "plain", name: "int5", options: ["--matrices", "int5"] },
  { run: "qat", name: "int5 after qat", options: ["--matrices", "int5"] },
  {
    run: "plain",
    name: "int5, a percentile a matrix, scales of 1/15 at least (as published)",
    options: ["--matrices", "int5", "--search", "matrix", "--floor", "reference"],
  },
];

if (text === undefined) {
  console.log("no tinyshakespeare.txt is here: give its path");
} else {
  await withTempDir(async (cwd) => {
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await quern(args, { cwd });
      if (code !== 0) throw new Error(stderr);
      return stdout;
    };
    const shards = ["--out", "data/shakespeare", "--tokenizer", "character"];
    await run("tokenize", text, ...shards);
    const train = ["pretrain", "recycled-core-tiny", "--device", "cpu", "--quiet"];
    await run(...train, "--out", "plain");
    await run(...train, "--out", "qat", "--set", "qat={bits: 5, from: 85%}");
    for (const [i, { run: of, name, options, most }] of trials.entries()) {
      const out = ["export", of, `small-${i}`, "--to", "artifact", "--json", "--device", "cpu"];
      const report = JSON.parse(
        await run(...out, ...options, "--compression", "zstd", "--measure", "data/shakespeare"),
      );
      const { before, after, bytes } = report, more = 100 * (after / before - 1);
      const verdict = most === undefined || more < most ? "" : `: MORE THAN ${most} %`;
      console.log(
        `${name}: ${bytes.toLocaleString("en-US")} bytes, ${before.toFixed(4)} → ${
          after.toFixed(4)
        } bits per byte, ${more < 0 ? "−" : "+"}${Math.abs(more).toFixed(2)} %${verdict}`,
      );
      if (verdict !== "") Deno.exitCode = 1;
    }
  });
}
