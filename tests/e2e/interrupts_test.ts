import { killOften } from "../soak/killing.ts";
import { withTempDir } from "../support.ts";

// pytorch-lightning 688, Automodel PR 3261: a kill during saving left what would not load. `deno task
// soak` does this a hundred times.
Deno.test("replay: Automodel 3261: kill -9 at any moment, and the run goes on bit for bit", {
  ignore: Deno.build.os === "windows",
}, () => withTempDir(async (dir) => void await killOften(dir, { kills: 5, seed: 3 })));

Deno.test(
  "quern sft: kill -9 at any moment, and the run goes on bit for bit",
  {
    ignore: Deno.build.os === "windows",
  },
  () =>
    withTempDir(async (dir) => void await killOften(dir, { kills: 3, seed: 5, command: "sft" })),
);
