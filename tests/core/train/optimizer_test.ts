import assert from "node:assert/strict";
import { UserError } from "../../../core/io/errors.ts";
import { optimizerConfig } from "../../../core/optim/mod.ts";
import { optimizerOf } from "../../../core/train/optimizer.ts";

Deno.test("a freeze that fits no parameter is the config's fault, and says where names are listed", () => {
  const config = optimizerConfig.parse({
    kind: "adamw",
    learning_rate: 0.1,
    freeze: [{ params: ["*.routre"] }],
  });
  const params = [{ path: "input.embedding", shape: [4, 2], role: "embedding" as const }];
  assert.throws(() => optimizerOf(config, params), (error) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.message, "freeze.0 (*.routre) fits no parameter");
    assert.equal(error.where, "optimizer");
    assert.match(error.hint ?? "", /quern inspect/);
    return true;
  });
});
