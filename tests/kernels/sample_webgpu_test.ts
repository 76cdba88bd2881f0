import assert from "node:assert/strict";
import { placeholder, spec, type Tensor } from "../../core/graph/mod.ts";
import { openWebgpu } from "../../core/device/webgpu/mod.ts";
import { sample } from "../../kernels/mod.ts";
import { webgpuTest } from "../support.ts";
import { runGraph } from "../support_device.ts";

webgpuTest(
  "sample: a token is always an id, though the logits be infinite or not numbers",
  async () => {
    await using device = await openWebgpu();
    const vocab = 300, rows = [NaN, Infinity, -Infinity];
    const logits = placeholder(spec([rows.length, vocab]), "logits", "upload"),
      chances = placeholder(spec([rows.length]), "chances", "upload"),
      settings = placeholder(spec([4]), "settings", "upload");
    const values = Float32Array.from(
      { length: rows.length * vocab },
      (_, i) => i % vocab === 5 ? rows[Math.floor(i / vocab)] : 0,
    );
    values.fill(-Infinity, 2 * vocab);
    for (const chosen of [[0, 0, 1, 0], [1, 0, 1, 0], [1, 5, 0.9, 0], [1, 0, 1, 0.1]]) {
      const [tokens] = await runGraph(
        device,
        [sample(logits, chances, settings).token],
        new Map<Tensor, ArrayLike<number>>([
          [logits, values],
          [chances, [0.1, 0.5, 0.9]],
          [settings, chosen],
        ]),
      );
      assert(tokens.every((id) => id >= 0 && id < vocab), `${chosen} gave ${tokens}`);
    }
  },
);
