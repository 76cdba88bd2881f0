/**
 * quern beside PyTorch on the 5.4 M model: each measurement is a process of its own, and they take
 * turns.
 */

import { fileURLToPath } from "node:url";
import { sharedPath } from "../support.ts";

/** What one process measured. */
interface Measured {
  readonly train_tok_s: number;
  readonly decode_tok_s: number;
  /** quern's own, as its planner counts. */
  readonly gflop_s?: number;
  readonly planned_mib?: number;
  readonly used_over_planned?: number;
}

const here = fileURLToPath(new URL("./llama.ts", import.meta.url));

// A BLAS that is told to pretend it runs on an older processor would be measured as that.
const env = Object.fromEntries(
  Object.entries(Deno.env.toObject()).filter(([name]) =>
    !/^OPENBLAS_(CORETYPE|L2_SIZE)$/.test(name)
  ),
);

async function measure(command: string, args: string[]): Promise<Measured | undefined> {
  try {
    const { code, stdout } = await new Deno.Command(command, {
      args,
      env,
      clearEnv: true,
      stderr: "null",
    }).output();
    return code === 0
      ? JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!)
      : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const quern = (blas: string) => () => measure(Deno.execPath(), ["run", "-A", here, "--blas", blas]);

export async function benchPeers(rounds = 3): Promise<void> {
  const script = sharedPath("peers", "torch_lm.py");
  const torch = (threads: number) => async () =>
    script
      ? await measure("/usr/bin/python3", [script, "--threads", `${threads}`, "--steps", "6"])
      : undefined;
  const contenders = {
    wasm: quern("off"),
    blas: quern("auto"),
    "torch 1": torch(1),
    "torch 2": torch(2),
  };
  const found = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(contenders)) {
      const result = await run();
      if (result) found.set(name, [...(found.get(name) ?? []), result]);
    }
  }
  const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
  const of = (name: string, key: "train_tok_s" | "decode_tok_s") =>
    found.has(name) ? median(found.get(name)!.map((m) => m[key])) : undefined;
  for (const name of Object.keys(contenders)) {
    const { gflop_s, planned_mib, used_over_planned } = found.get(name)?.at(-1) ?? {};
    const own = gflop_s === undefined
      ? ""
      : `, ${gflop_s} GFLOP/s, ${used_over_planned} of the planned ${planned_mib} MiB`;
    console.log(
      `${name.padEnd(8)} training ${of(name, "train_tok_s") ?? "-"} tok/s, ` +
        `decoding ${of(name, "decode_tok_s") ?? "-"} tok/s${own}`,
    );
  }
  for (const key of ["train_tok_s", "decode_tok_s"] as const) {
    const best = Math.max(of("torch 1", key) ?? 0, of("torch 2", key) ?? 0);
    if (best === 0) continue;
    console.log(
      `${key}: wasm ${(of("wasm", key)! / best).toFixed(2)}, blas ${
        (of("blas", key)! / best).toFixed(2)
      } of PyTorch's better`,
    );
  }
  if (!script) console.log("PyTorch was not measured: its script lies outside this checkout");
}

if (import.meta.main) await benchPeers();
