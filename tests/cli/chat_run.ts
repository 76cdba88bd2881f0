/** Runs that can be chatted with: trained for a moment, by no means on conversations. */

import { join } from "node:path";
import { tokenizeFiles } from "../../core/data/tokenize.ts";
import { chatml, tokenizerConfigName, tokenizerConfigText } from "../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../core/text/special_tokens.ts";
import { characterTokenizer } from "../../core/text/tokenizer.ts";
import { tinyConfig, train } from "../core/train/tiny_run.ts";

const text = "Once upon a time there was a system. The user asks, and the assistant answers.\n";
const letters =
  `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,?!+=-/\\"\n\t日😀`;

/** Makes `NAME` in a folder, with a context of so many characters; with ChatML's tokens and template if it `isTuned`. */
export async function makeChatRun(
  dir: string,
  name: string,
  { context, isTuned }: { context: number; isTuned: boolean },
): Promise<void> {
  const run = join(dir, name), from = (file: string) => join(dir, `${name}.${file}`);
  const plain = characterTokenizer(letters);
  const tokenizer = isTuned ? await withSpecialTokens(plain, chatml.controlTokens) : plain;
  await Deno.writeTextFile(from("tokenizer.json"), tokenizer.file);
  await Deno.writeTextFile(from("txt"), text.repeat(20));
  await tokenizeFiles({
    inputs: [from("txt")],
    reading: { format: "text", fields: ["text"], separator: "\n", onError: "stop" },
    tokenizer: from("tokenizer.json"),
    valFraction: 0,
    seed: 0,
    target: { folder: from("data"), ifExists: "fail", shardBytes: 2 ** 20 },
  });
  const config = tinyConfig(from("data"), { steps: 2 });
  const model = { ...config.model, max_position_embeddings: context };
  await train({ ...config, model }, { run });
  if (!isTuned) return;
  await Deno.writeTextFile(join(run, tokenizerConfigName), tokenizerConfigText(chatml, tokenizer));
}
