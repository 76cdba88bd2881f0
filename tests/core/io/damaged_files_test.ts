import assert from "node:assert/strict";
import { damageMany } from "../../soak/damaging.ts";
import { withTempDir } from "../../support.ts";

/** A fast share of `deno task soak-files`. */
Deno.test("files: damaged safetensors, .pt, GGUF and artifacts load or are refused clearly", async () => {
  await withTempDir(async (dir) => {
    const met = await damageMany(dir, { files: 250, seed: 7 });
    assert.deepEqual(met.map(({ format }) => format), ["safetensors", "pt", "gguf", "artifact"]);
    // what loads shows that the damage is not all of one kind; kinds of messages, that checks are reached
    for (const { loaded, messages } of met) assert.ok(loaded > 2 && messages > 15);
  });
});
