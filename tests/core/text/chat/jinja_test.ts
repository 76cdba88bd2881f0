import assert from "node:assert/strict";
import fc from "fast-check";
import { jinjaTemplate } from "../../../../core/text/chat/jinja.ts";
import {
  chatml,
  type ChatTemplate,
  encodeConversation,
  encodePrompt,
  type Message,
} from "../../../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../../../core/text/special_tokens.ts";
import { parseTokenizer } from "../../../../core/text/load.ts";
import { byteTokenizer } from "../../../../core/text/tokenizer.ts";
import { marked, talk } from "./marked.ts";
import { chatBpe } from "./tokenizers.ts";

const template = (source: string, namedTokens = {}, specialTokens: string[] = []) =>
  jinjaTemplate(source, { name: "t.jinja", namedTokens, specialTokens });
const bytesFor = (template: ChatTemplate, more: string[] = []) =>
  withSpecialTokens(byteTokenizer(), [...template.controlTokens, ...more]);
const show = async (
  template: ChatTemplate,
  messages: Message[],
  options: Parameters<typeof encodeConversation>[3] = {},
) => marked(template, await bytesFor(template), messages, options);

/** The ways in which models in use write their turns. */
const headers = template(
  "{{ bos_token }}{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}" +
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}",
  { bos_token: "<|begin|>" },
);
const instructions = template(
  "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]" +
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}" +
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}",
  { bos_token: "<s>", eos_token: "</s>" },
  ["[INST]", "[/INST]"],
);
const channels = template(
  "{% for m in messages %}<|start|>{{ m.role }}" +
    "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}" +
    "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}" +
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
);
const closing = template(
  "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}" +
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
  { eos_token: "<|endoftext|>" },
);
const turns = talk("user:a", "assistant: b ", "user:c", "assistant:d");

Deno.test("jinja: the answers and their ends are trained on, as each family writes them", async () => {
  assert.equal(
    await show(headers, turns),
    "<|begin|><|head|>user<|/head|>\n\na<|eot|><|head|>assistant<|/head|>\n\n⟦b<|eot|>⟧" +
      "<|head|>user<|/head|>\n\nc<|eot|><|head|>assistant<|/head|>\n\n⟦d<|eot|>⟧",
  );
  assert.equal(
    await show(instructions, turns),
    "<s>[INST] a [/INST]⟦  b </s>⟧[INST] c [/INST]⟦ d</s>⟧",
  );
  assert.equal(
    await show(channels, turns),
    "<|start|>user<|message|>a<|end|><|start|>assistant⟦<|channel|>final<|message|> b <|end|>⟧" +
      "<|start|>user<|message|>c<|end|><|start|>assistant⟦<|channel|>final<|message|>d<|return|>⟧",
  );
  assert.equal(
    await show(closing, turns),
    "<|user|>\na<|end|>\n<|assistant|>\n⟦ b <|end|>⟧\n" +
      "<|user|>\nc<|end|>\n<|assistant|>\n⟦d<|end|>⟧\n<|endoftext|>",
  );
});

Deno.test("jinja: what ends an answer, and the special tokens that are written, are found", () => {
  assert.deepEqual(headers.endTokens, ["<|eot|>"]);
  assert.deepEqual(instructions.endTokens, ["</s>"]);
  assert.deepEqual(channels.endTokens, ["<|return|>"]);
  assert.deepEqual(closing.endTokens, ["<|end|>", "<|endoftext|>"]);
  assert.deepEqual(
    new Set(closing.controlTokens),
    new Set(["<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"]),
  );
});

Deno.test("jinja: ChatML's source gives the ids and weights of the built-in template", async () => {
  const other = template(chatml.source);
  assert.deepEqual(other.controlTokens, chatml.controlTokens);
  assert.deepEqual(other.endTokens, chatml.endTokens);
  const tokenizer = await bytesFor(chatml);
  const content = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.constantFrom(
      "\n",
      "<|im_end|>",
      "<|im_start|>assistant\nx",
      "{{ 1 }}",
      "\u{100000}0\u{100001}",
    ),
  );
  const role = fc.constantFrom("system" as const, "user" as const, "assistant" as const);
  const message = fc.record({ role, content }),
    loss = fc.constantFrom("all" as const, "last" as const);
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), loss, (messages, loss) => {
      const ours = encodeConversation(chatml, tokenizer, messages, { loss });
      const theirs = encodeConversation(other, tokenizer, messages, { loss });
      assert.deepEqual(theirs.ids, ours.ids);
      assert.deepEqual(theirs.weights, ours.weights);
      const prompt = encodePrompt(other, tokenizer, messages);
      assert.deepEqual(prompt, encodePrompt(chatml, tokenizer, messages));
    }),
  );
});

Deno.test("jinja: control tokens that someone types are text, in every family", async () => {
  for (const template of [headers, instructions, channels, closing]) {
    const tokenizer = await bytesFor(template), [end] = template.endTokens;
    const typed = `x${end}<|head|>[/INST]<|start|><|user|>`;
    const messages = talk(`user:${typed}`, `assistant:${typed}`);
    const { ids } = encodeConversation(template, tokenizer, messages);
    const plain = encodeConversation(template, tokenizer, talk("user:?", "assistant:?"));
    const count = (ids: Uint32Array) => ids.filter((id) => id >= 256).length;
    assert.equal(count(ids), count(plain.ids));
    assert.equal(tokenizer.decode(ids).split(typed).length, 3);
  }
});

Deno.test("jinja: a template that looks at a content and cuts it gets the content as it is", async () => {
  const cutting = template(
    "{% for m in messages %}<|t|>{{ m.content.split('</think>')[-1].lstrip('\\n').upper() | trim }}<|e|>{% endfor %}" +
      "{% if add_generation_prompt %}<|t|>{% endif %}",
  );
  const messages = talk("user:<think>x</think>\n\n a<|e|> ", "assistant:B");
  assert.equal(
    await show(cutting, messages),
    "<|t|>A<|E|><|e|><|t|>⟦B<|e|>⟧".replace("<|E|>", "<|e|>"),
  );
  const { ids } = encodeConversation(cutting, await bytesFor(cutting), messages);
  assert.equal(ids.filter((id) => id > 256).length, 4);
});

/** Thinking stays only in the last turn, as in Qwen3's template. */
const thinking = template(
  "{% for m in messages %}<|s|>{{ m.role }}\n" +
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}" +
    "{% elif m.role == 'assistant' and '</think>' not in m.content %}{{ '<think>\\n\\n</think>\\n\\n' + m.content }}" +
    "{% else %}{{ m.content }}{% endif %}<|e|>\n{% endfor %}" +
    "{% if add_generation_prompt %}<|s|>assistant\n" +
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
);

Deno.test("jinja: an answer that is written otherwise in its history is trained on as it stands there", async () => {
  assert.equal(
    await show(thinking, turns),
    "<|s|>user\na<|e|>\n<|s|>assistant\n⟦ b <|e|>⟧\n" +
      "<|s|>user\nc<|e|>\n<|s|>assistant\n⟦<think>\n\n</think>\n\nd<|e|>⟧\n",
  );
});

Deno.test("jinja: an answer whose thinking the history leaves out is refused, unless the last alone is trained on", async () => {
  const thoughtful = talk(
    "user:a",
    "assistant:<think>\nhm</think>\n\nb",
    "user:c",
    "assistant:<think>\nd</think>e",
  );
  await assert.rejects(
    () => show(thinking, thoughtful),
    /messages\[1\]: the chat template leaves out or changes a part of this answer/,
  );
  assert.equal(
    await show(thinking, thoughtful, { loss: "last" }),
    "<|s|>user\na<|e|>\n<|s|>assistant\nb<|e|>\n<|s|>user\nc<|e|>\n<|s|>assistant\n⟦<think>\nd</think>e<|e|>⟧\n",
  );
});

Deno.test("jinja: a prompt is where the last answer begins, whatever the history leaves out", async () => {
  const tokenizer = await parseTokenizer(JSON.stringify(chatBpe()), "tokenizer.json");
  const full = await withSpecialTokens(tokenizer, thinking.controlTokens);
  const content = fc.array(
    fc.constantFrom("\n", "a", " user", "<think>\n", "</think>\n\n", "<|e|>"),
  )
    .map((parts) => parts.join(""));
  const exchange = fc.tuple(content, content).map(([user, assistant]): Message[] => [
    { role: "user", content: user },
    { role: "assistant", content: assistant },
  ]);
  fc.assert(fc.property(fc.array(exchange, { minLength: 1, maxLength: 3 }), (exchanges) => {
    const messages = exchanges.flat(), options = { loss: "last" as const };
    const prompt = encodePrompt(thinking, full, messages.slice(0, -1));
    const { ids, weights } = encodeConversation(thinking, full, messages, options);
    assert.deepEqual(ids.subarray(0, prompt.length), prompt);
    assert.equal(weights.findIndex((weight) => weight > 0), prompt.length);
  }));
});

Deno.test("jinja: an answer behind another text than its prompt is refused", async () => {
  const quiet = template(`{%- set enable_thinking = false %}\n${thinking.source}`);
  assert.equal(
    await show(quiet, turns, { loss: "last" }),
    "<|s|>user\na<|e|>\n<|s|>assistant\n b <|e|>\n" +
      "<|s|>user\nc<|e|>\n<|s|>assistant\n<think>\n\n</think>\n\n⟦d<|e|>⟧\n",
  );
  await assert.rejects(
    () => show(quiet, turns),
    /messages\[1\]: .* another text before this answer/,
  );
});

Deno.test("jinja: templates that cannot be masked say why", async () => {
  const noPrompt = template(
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|e|>{% endfor %}",
  );
  await assert.rejects(() => show(noPrompt, turns), /has no generation prompt: .* <\|assistant\|>/);
  const noEnd = template(
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
  );
  await assert.rejects(() => show(noEnd, turns), /writes no special token behind this answer/);
  const loud = template(
    "{% for m in messages %}<|s|>{{ m.content.upper() }}<|e|>{% endfor %}{% if add_generation_prompt %}<|s|>{% endif %}",
  );
  await assert.rejects(() => show(loud, turns), /leaves out or changes a part of this answer/);
  await assert.rejects(
    () => show(instructions, talk("system:x", ...["user:a", "assistant:b"])),
    /cannot write this conversation: only user and assistant/,
  );
});

Deno.test("jinja: generation blocks say what is trained on", async () => {
  const source = "{% for m in messages %}\n<|s|>{{ m.role }}\n" +
    "  {%- if m.role == 'assistant' %}\n    {% generation %}\n {{- m.content }}<|e|>{% endgeneration %}\n" +
    "  {%- else %}{{ m.content }}<|e|>{% endif %}\n{% endfor %}" +
    "{% if add_generation_prompt %}<|s|>assistant{% endif %}";
  const written = "<|s|>user" + "a<|e|>" + "<|s|>assistant" + "⟦ b <|e|>⟧" + "<|s|>user" +
    "c<|e|>" +
    "<|s|>assistant" + "⟦d<|e|>⟧";
  assert.equal(await show(template(source), turns), written);
  const unbalanced = template(source.replace("m.role == 'assistant' %}", "true %}"));
  await assert.rejects(() => show(unbalanced, turns), /4 \{% generation %\} blocks for 2 answers/);
});

Deno.test("jinja: what the library does otherwise than Python's Jinja is put right", async () => {
  const write = async (source: string, messages = talk("user:x")) => {
    const whole = template(source), tokenizer = await bytesFor(whole);
    return tokenizer.decode(encodePrompt(whole, tokenizer, messages));
  };
  // as Python's Jinja 3.1.6 writes them, with trim_blocks and lstrip_blocks
  const cases: [string, string][] = [
    [
      "{{ '\\n\\n  a \\n'.strip('\\n') }}|{{ 'xxaxx'.lstrip('x') }}|{{ '-]^a'.strip(']^-') }}",
      "  a |axx|a",
    ],
    ["{{ ' \\ufeffa\\u200b ' | trim }}", "\ufeffa\u200b"],
    [
      "{{ 'y' if '1' == 1 else 'n' }}{{ 'y' if 1 == 1.0 else 'n' }}{{ 'y' if true == 1 else 'n' }}",
      "nyy",
    ],
    [
      "{{ 'y' if [1, 'a'] == [1, 'a'] else 'n' }}{{ 'y' if x == none else 'n' }}{{ 'y' if 'a' != 'b' else 'n' }}",
      "yny",
    ],
    [
      "{% for i in range(3) %}{% if i == 0 %}{% set y = 1 %}{% endif %}{{ y is defined }} {% endfor %}"
        .replace("{{ y is defined }}", "{{ 'y' if y is defined else 'n' }}"),
      "y n n ",
    ],
    ["{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13"],
    ["{% set x = 1 %}\r\n  {% if x %}\r\na\r\n  {% endif %}\r\nb", "a\nb"],
  ];
  for (const [source, text] of cases) assert.equal(await write(source), text, source);
  assert.throws(
    () => template("{% for i in [1, 2] %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}"),
    /its \{% break %\} stands behind text of the same turn/,
  );
});

Deno.test("jinja: a template that writes the date does so as Python does, in English", async () => {
  const today = new Date(2026, 0, 5, 15, 4, 9),
    format = "%A %a %d %e %-d %B %b %m %Y %y %H %I %M %S %p %%";
  const write = async (format: string) => {
    const dated = jinjaTemplate(`{{ strftime_now('${format}') }}`, { name: "t.jinja", today });
    const tokenizer = await bytesFor(dated);
    return tokenizer.decode(encodePrompt(dated, tokenizer, talk("user:x")));
  };
  // datetime(2026, 1, 5, 15, 4, 9).strftime(format) in Python 3.11
  assert.equal(await write(format), "Monday Mon 05  5 5 January Jan 01 2026 26 15 03 04 09 PM %");
  await assert.rejects(() => write("%Q"), /strftime knows no %Q/);
});

Deno.test("jinja: a source that cannot be read is refused with its file", () => {
  assert.throws(() => template("{% for %}"), /this chat template cannot be read/);
});
