import assert from "node:assert/strict";
import { join } from "node:path";
import { quern } from "../support.ts";

/** A shard as the challenge writes it, of documents that count upwards. */
function shard(documents: number): Uint8Array {
  const tokens = Array.from({ length: documents }, (_, i) => [1, 2 + i % 5, 3 + i % 5, 4 + i % 5])
    .flat();
  const words = new Int32Array(256), bytes = new Uint8Array(1024 + 2 * tokens.length);
  words.set([20240520, 1, tokens.length]);
  bytes.set(new Uint8Array(words.buffer));
  bytes.set(new Uint8Array(Uint16Array.from(tokens).buffer), 1024);
  return bytes;
}

const config = `model:
  hidden_size: 8
  num_hidden_layers: 1
  num_attention_heads: 2
  intermediate_size: 8
data: { path: fineweb, packing: windows }
sequence_length: 8
batch_size: 2
steps: 2
optimizer: { kind: adamw, learning_rate: 0.01 }
`;

Deno.test("quern pretrain reads fineweb_*.bin; texts are then numbers, and bits per byte are not known", async () => {
  const cwd = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(cwd, "fineweb"));
    await Deno.writeFile(join(cwd, "fineweb/fineweb_train_000000.bin"), shard(40));
    await Deno.writeFile(join(cwd, "fineweb/fineweb_val_000000.bin"), shard(9));
    await Deno.writeTextFile(join(cwd, "bin.yaml"), config);
    const pretrain = ["pretrain", "bin.yaml", "--out", "run", "--device", "cpu"];
    const unsaid = await quern(pretrain, { cwd });
    assert.equal(unsaid.code, 2);
    assert.match(unsaid.stderr, /hint: .*\{"quern":"ids","vocab_size":1024\}/);
    await Deno.writeTextFile(
      join(cwd, "fineweb/tokenizer.json"),
      '{"quern":"ids","vocab_size":10}',
    );
    const trained = await quern(pretrain, { cwd });
    assert.equal(trained.code, 0, trained.stderr);
    assert.match(trained.stderr, /validation loss \d\.\d+, bits a byte not known/);
    const metrics = await Deno.readTextFile(join(cwd, "run/metrics.jsonl"));
    assert.match(metrics, /"bits_per_byte":null/);
    const text = await quern(["generate", "run", "2 3", "--max-tokens", "4", "--device", "cpu"], {
      cwd,
    });
    assert.equal(text.code, 0, text.stderr);
    assert.match(text.stdout, /^2 3[ \d]*\n$/);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
