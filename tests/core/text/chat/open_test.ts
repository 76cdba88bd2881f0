import assert from "node:assert/strict";
import { join } from "node:path";
import {
  chatml,
  encodePrompt,
  findChatTemplate,
  openChatTemplate,
  tokenizerConfigName,
  tokenizerConfigText,
} from "../../../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../../../core/text/special_tokens.ts";
import { byteTokenizer } from "../../../../core/text/tokenizer.ts";
import { withTempDir } from "../../../support.ts";
import { talk } from "./marked.ts";

const source = "{{ bos_token }}{% for m in messages %}<turn>{{ m.content }}</turn>{% endfor %}" +
  "{% if add_generation_prompt %}<turn>{% if shout %}!{% endif %}{% endif %}";
const config = {
  chat_template: source,
  bos_token: { content: "<bos>", lstrip: false },
  eos_token: "<eos>",
  added_tokens_decoder: {
    "1": { content: "<turn>", special: true },
    "2": { content: "</turn>", special: true },
    "3": { content: "<think>", special: false },
  },
};

/** A folder with these files, JSON where they are no text. */
async function withFiles(files: Record<string, unknown>, use: (dir: string) => Promise<void>) {
  await withTempDir(async (dir) => {
    for (const [name, content] of Object.entries(files)) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await Deno.writeTextFile(join(dir, name), text);
    }
    await use(dir);
  });
}

async function promptOf(path: string, options = {}): Promise<string> {
  const template = await openChatTemplate(path, options);
  const tokenizer = await withSpecialTokens(byteTokenizer(), template.controlTokens);
  const names = new Map([...tokenizer.specialTokens].map(([name, id]) => [id, name]));
  return [...encodePrompt(template, tokenizer, talk("user:a"))]
    .map((id) => names.get(id) ?? String.fromCharCode(id)).join("");
}

Deno.test("chat templates: a tokenizer_config.json gives its template, its tokens and its special ones", async () => {
  await withFiles({ [tokenizerConfigName]: config }, async (dir) => {
    const template = await openChatTemplate(dir);
    assert.deepEqual(new Set(template.controlTokens), new Set(["<bos>", "<turn>", "</turn>"]));
    assert.deepEqual(template.endTokens, ["</turn>", "<eos>"]);
    assert.equal(await promptOf(dir), "<bos><turn>a</turn><turn>");
    assert.equal(await promptOf(join(dir, tokenizerConfigName)), "<bos><turn>a</turn><turn>");
  });
});

Deno.test("chat templates: a Jinja file counts before the config beside it, which names its tokens", async () => {
  const files = { [tokenizerConfigName]: config, "chat_template.jinja": `X${source}` };
  await withFiles(files, async (dir) => {
    assert.equal(await promptOf(dir), "X<bos><turn>a</turn><turn>");
    await Deno.writeTextFile(join(dir, "mine.jinja"), `Y${source}`);
    assert.equal(await promptOf(join(dir, "mine.jinja")), "Y<bos><turn>a</turn><turn>");
  });
});

Deno.test("chat templates: special tokens may be named, and variables are kept with the template", async () => {
  await withFiles({ "mine.jinja": source }, async (dir) => {
    const options = { specialTokens: ["<turn>", "</turn>"], variables: { shout: true } };
    const template = await openChatTemplate(join(dir, "mine.jinja"), options);
    assert.deepEqual(template.controlTokens, ["<turn>", "</turn>"]);
    await Deno.writeTextFile(join(dir, "kept.jinja"), template.source);
    assert.equal(await promptOf(join(dir, "kept.jinja")), "<turn>a</turn><turn>!");
  });
});

Deno.test("chat templates: one of several is chosen by its name", async () => {
  const chat_template = [
    { name: "default", template: source },
    { name: "loud", template: `LOUD ${source}` },
  ];
  await withFiles({ [tokenizerConfigName]: { ...config, chat_template } }, async (dir) => {
    assert.equal(await promptOf(dir), "<bos><turn>a</turn><turn>");
    assert.equal(await promptOf(`${dir}#loud`), "LOUD <bos><turn>a</turn><turn>");
    await assert.rejects(() => openChatTemplate(`${dir}#lout`), /no chat template lout .*loud/);
  });
});

Deno.test("chat templates: what is written for ChatML is ChatML when it is read", async () => {
  const tokenizer = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
  const text = tokenizerConfigText(chatml, tokenizer);
  await withFiles({ [tokenizerConfigName]: text }, async (dir) => {
    assert.equal(await findChatTemplate(dir), chatml);
    const { eos_token, pad_token, added_tokens_decoder } = JSON.parse(text);
    assert.deepEqual([eos_token, pad_token], ["<|im_end|>", "<|endoftext|>"]);
    assert.deepEqual(Object.keys(added_tokens_decoder), ["256", "257", "258"]);
  });
});

Deno.test("chat templates: what is written for any template is that template when it is read", async () => {
  const sources = [source, `{% if bos_token %}x{% endif %}${source}{{ eos_token }}`];
  for (const chat_template of sources) {
    for (const named of [config, { added_tokens_decoder: config.added_tokens_decoder }]) {
      await withFiles({ [tokenizerConfigName]: { ...named, chat_template } }, async (dir) => {
        const template = await openChatTemplate(dir, { variables: { shout: true } });
        const tokenizer = await withSpecialTokens(byteTokenizer(), template.controlTokens);
        const before = encodePrompt(template, tokenizer, talk("user:a", "assistant:b"));
        const text = tokenizerConfigText(template, tokenizer);
        await Deno.writeTextFile(join(dir, tokenizerConfigName), text);
        const again = await openChatTemplate(dir);
        assert.deepEqual(encodePrompt(again, tokenizer, talk("user:a", "assistant:b")), before);
        assert.deepEqual(new Set(again.controlTokens), new Set(template.controlTokens));
        assert.deepEqual(new Set(again.endTokens), new Set(template.endTokens));
        assert.equal(tokenizerConfigText(again, tokenizer), text);
      });
    }
  }
});

Deno.test("chat templates: a generation_config.json names further ends of an answer", async () => {
  const files = {
    [tokenizerConfigName]: config,
    "generation_config.json": { eos_token_id: [2, 1, 9] },
  };
  await withFiles(files, async (dir) => {
    assert.deepEqual((await openChatTemplate(dir)).endTokens, ["</turn>", "<eos>", "<turn>"]);
  });
});

Deno.test("chat templates: what is none is refused, an absent one is absent", async () => {
  const files = { "a.json": "[]", "b.json": { chat_template: 3 }, "c.json": "{" };
  await withFiles(files, async (dir) => {
    for (const name of Object.keys(files)) {
      await assert.rejects(() => openChatTemplate(join(dir, name)), { where: join(dir, name) });
    }
    assert.equal(await findChatTemplate(dir), undefined);
    await assert.rejects(() => openChatTemplate(dir), /there is no chat template here/);
  });
  await assert.rejects(() => openChatTemplate("chatnl"), /no such chat template.*chatml/);
  await assert.rejects(() => openChatTemplate("chatml", { variables: { x: 1 } }), /no variable x/);
});
