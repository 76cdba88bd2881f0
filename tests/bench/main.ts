/**
 * All benchmarks, or those named: `deno task bench [matmul] [elementwise] [training] [precision]
 * [polyglu] [router] [start] [tokenize] [artifact] [load] [tiny] [chat] [score] [eval] [loader]
 * [webgpu]`. Every figure is a ratio to something measured in the same run: machines differ, and are
 * shared.
 */

import { fileURLToPath } from "node:url";

interface Bench {
  readonly what: string;
  /** Scripts beside this file, or a function. */
  readonly run: () => Promise<void>;
}

const script = (name: string, ...args: string[]) => async () => {
  const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
  const { code } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", file, ...args] })
    .spawn().status;
  if (code !== 0) throw new Error(`${name} ended with ${code}`);
};

const benches: Readonly<Record<string, Bench>> = {
  start: { what: "the time that help takes", run: start },
  matmul: {
    what: "products in WASM beside OpenBLAS and jax-js; one member beside two",
    run: script("matmul"),
  },
  elementwise: {
    what: "chains and row kernels in WASM beside plain loops",
    run: script("elementwise"),
  },
  training: {
    what: "a training step and decoding of a 5.4 M model beside PyTorch",
    run: script("peers"),
  },
  plan: {
    what: "a model of 600 million parameters traced, differentiated and planned, for both devices",
    run: script("plan"),
  },
  precision: {
    what: "training in bf16 beside f32: time and memory of an update",
    run: precision,
  },
  polyglu: {
    what:
      "a training step of mlps that mix four activations beside SwiGLU's; at most 1.35 is asked",
    run: script("polyglu", "--blas", "off"),
  },
  router: {
    what:
      "a training step of three branches that a router weighs beside their mean; at most 1.05 is asked",
    run: script("router", "--blas", "off"),
  },
  tokenize: {
    what: "byte-level BPE beside @huggingface/tokenizers; learning a vocabulary",
    run: script("tokenize"),
  },
  artifact: {
    what: "bits per byte that a small model costs once packed; under 1 % more is asked of int6",
    run: script("artifact"),
  },
  load: {
    what: "a file of 600 million parameters loaded onto the cpu device beside reading it",
    run: script("load"),
  },
  tiny: {
    what:
      "the small siblings of the published models, each trained to the loss that its config states",
    run: script("tiny"),
  },
  chat: {
    what:
      "a chat's tokens/s beside quern generate's; the next turn read with a kept cache, and anew",
    run: script("chat"),
  },
  score: {
    what: "choices scored with what their prompts share computed once, and row by row",
    run: script("score"),
  },
  eval: {
    what: "many prompts in the rows of one batch beside one after the other",
    run: script("eval"),
  },
  sft: {
    what: "fine-tuning on GSM8K: what a minute learns, and its time a token beside pretraining's",
    run: script("sft"),
  },
  loader: {
    what: "making rows beside a training step on them; less than 1 % is asked",
    run: script("loader"),
  },
  webgpu: { what: "products and attention on the GPU", run: webgpu },
};

async function precision(): Promise<void> {
  await script("precision", "--blas", "off")();
  await script("precision", "--blas", "auto")();
}

async function start(): Promise<void> {
  const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url)),
    empty = await Deno.makeTempFile({ suffix: ".js" });
  const times = { help: [] as number[], nothing: [] as number[] };
  for (let round = 0; round < 15; round++) {
    for (const [name, args] of [["help", [main, "--help"]], ["nothing", [empty]]] as const) {
      const at = performance.now();
      await new Deno.Command(Deno.execPath(), { args: ["run", "-A", ...args] }).output();
      times[name].push(performance.now() - at);
    }
  }
  await Deno.remove(empty);
  const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1];
  console.log(
    `quern --help ${median(times.help).toFixed(0)} ms from source; an empty program ${
      median(times.nothing).toFixed(0)
    } ms`,
  );
}

async function webgpu(): Promise<void> {
  const { findAdapter, isSoftware } = await import("../../core/device/webgpu/mod.ts");
  const adapter = await findAdapter();
  if (!adapter) return console.log("no adapter here");
  await script("webgpu_matmul")();
  await script("webgpu_attention")();
  // A software adapter would take minutes for what says nothing of a GPU.
  if (!isSoftware(adapter)) {
    await script("llama", "--device", "webgpu", "--steps", "10", "--tokens", "256")();
    await script("precision", "--device", "webgpu")();
    const larger = ["batch_size=32", "model.hidden_size=768", "model.intermediate_size=2048"];
    await script("precision", "--device", "webgpu", ...larger.flatMap((x) => ["--set", x]))();
  }
}

if (import.meta.main) {
  const unknown = Deno.args.filter((name) => !(name in benches));
  if (unknown.length > 0) {
    console.error(
      `no benchmark ${unknown.join(", ")}; there are ${Object.keys(benches).join(", ")}`,
    );
    Deno.exit(2);
  }
  for (const [name, { what, run }] of Object.entries(benches)) {
    if (Deno.args.length > 0 && !Deno.args.includes(name)) continue;
    console.log(`\n${name}: ${what}`);
    await run();
  }
}
