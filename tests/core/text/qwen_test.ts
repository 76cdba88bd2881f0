import assert from "node:assert/strict";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { huggingfaceTokenizer } from "../../../core/text/huggingface.ts";
import { root, sharedPath } from "../../support.ts";
import { readQwen3 } from "./qwen3.ts";
import { awkward, unicodeSamples } from "./samples.ts";

const text = await readQwen3("tokenizer.json");

/** The first part of each file of real text that is here. */
function realTexts(): string[] {
  const here = [`${root}core/text/pieces.ts`, `${root}README.md`, `${root}tools/launcher.sh`];
  const shared = ["tinyshakespeare.txt", "gsm8k_train.jsonl"]
    .flatMap((name) => sharedPath("data", name) ?? []);
  return [...here, ...shared].map((path) => Deno.readTextFileSync(path).slice(0, 100_000));
}

const spaces = [" \n  \n\n\t x\r\n\r\n  y \u3000z\u00a0\n", " ".repeat(50), "\n".repeat(20) + "a"];
const signs = [
  "<think>\n2 × 3 = 6\n</think> <|im_start|>user",
  "1234567.89e-10 ½ ² ١٢٣",
  "🙂👩‍👩‍👧🇩🇪 e\u0301 \u212b",
];

Deno.test({
  name: "Qwen3's tokenizer: the ids of @huggingface/tokenizers, on real text, whole and cut",
  ignore: text === undefined,
  fn: () => holdToLibrary(text!),
});

function holdToLibrary(file: string): void {
  const description = JSON.parse(file) as { added_tokens: { special: boolean }[] };
  const ordinary = description.added_tokens.filter(({ special }) => !special);
  const library = new Library({ ...description, added_tokens: ordinary } as never, {});
  const ours = huggingfaceTokenizer(file, "tokenizer.json");
  const texts = [...awkward, ...unicodeSamples, ...spaces, ...signs, ...realTexts()];
  for (const text of [...texts, unicodeSamples.join("").repeat(20)]) {
    const ids = [...ours.encode(text)];
    assert.deepEqual(ids, library.encode(text, { add_special_tokens: false }).ids);
    assert.equal(ours.decode(ids), text.normalize("NFC"));
    const cut = ours.lastCut!(text.slice(0, Math.ceil(text.length * 0.7)));
    const parts = [...ours.encode(text.slice(0, cut)), ...ours.encode(text.slice(cut))];
    assert.deepEqual(parts, ids);
  }
  assert.equal(ours.endOfText, 151643);
}
