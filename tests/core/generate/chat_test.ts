import assert from "node:assert/strict";
import {
  type AnswerEvent,
  type Chat,
  type ChatEvent,
  type ChatModel,
  type ChatOptions,
  messagesOf,
  openChat,
  openSession,
} from "../../../core/generate/mod.ts";
import { chatml, encodePrompt, type Message } from "../../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../../core/text/special_tokens.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { openTiny, type TinyDecoder, tinyNames } from "./tiny_decoders.ts";

const bytes = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
/** Few characters, so that a hot model ends its turn soon. */
const letters = await withSpecialTokens(
  characterTokenizer("abcd \nsystemuranis"),
  chatml.controlTokens,
);

interface TinyChat extends AsyncDisposable {
  readonly tiny: TinyDecoder;
  readonly model: ChatModel;
  readonly chat: Chat;
}

async function openTinyChat(
  name: string,
  capacity: number,
  tokenizer: Tokenizer = bytes,
): Promise<TinyChat> {
  const vocab = tokenizer.vocabSize;
  const tiny = await openTiny(name, { capacity, vocab, penalties: "counted" });
  const model = { tokenizer, decoder: tiny.decoder, beginning: undefined, template: chatml };
  const chat = openChat(model);
  return {
    tiny,
    model,
    chat,
    async [Symbol.asyncDispose]() {
      chat[Symbol.dispose]();
      await tiny[Symbol.asyncDispose]();
    },
  };
}

const options = (seed: number, changes: Partial<ChatOptions> = {}): ChatOptions => ({
  maxTokens: 16,
  sampling: { temperature: 1, topK: 0, topP: 1, seed },
  ...changes,
});

interface Told {
  readonly ids: number[];
  readonly text: string;
  readonly forgotten: number;
  readonly answer: AnswerEvent;
}

async function listen(events: AsyncIterable<ChatEvent>): Promise<Told> {
  const ids: number[] = [];
  let text = "", forgotten = 0;
  for await (const event of events) {
    text += event.text;
    if (event.kind === "token") ids.push(event.id);
    else if (event.kind === "forget") forgotten += event.turns;
    else return { ids, text, forgotten, answer: event };
  }
  throw new Error("the answer has no end");
}

for (const name of tinyNames) {
  Deno.test(`${name}: what a chat says is what its conversation gives at once, also after undo and clear`, async () => {
    await using opened = await openTinyChat(name, 256);
    const { chat, model } = opened;
    const told: { messages: Message[]; seed: number; ids: number[] }[] = [];
    const turn = async (text: string, seed: number) => {
      const before = messagesOf(chat.conversation);
      const { ids, answer } = await listen(chat.say(text, options(seed)));
      const messages: Message[] = [...before, { role: "user", content: text }];
      told.push({ messages, seed, ids });
      assert.deepEqual(messagesOf(chat.conversation), [
        ...messages,
        { role: "assistant", content: answer.content },
      ]);
      assert.equal(answer.promptTokens, encodePrompt(chatml, bytes, messages).length);
      return answer;
    };
    chat.instruct("Be brief.");
    const first = await turn("Hello", 1);
    assert.equal(first.readTokens, first.promptTokens);
    await turn("What is 3 + 4?", 2);
    await chat.settle(new AbortController().signal);
    const third = await turn("And 4 + 3?", 3);
    assert.ok(third.readTokens < third.promptTokens / 2);
    assert.equal(chat.undo(), "And 4 + 3?");
    const again = await turn("And 4 + 3?", 3);
    assert.equal(again.content, third.content);
    chat.undo();
    chat.undo();
    await turn("Something else", 4);
    chat.begin();
    await turn("Hello", 1);
    assert.deepEqual(told.at(-1), told[0]); // under the same system's message
    chat.instruct(undefined);
    await turn("Hello", 5);
    chat[Symbol.dispose]();
    for (const { messages, seed, ids } of told) {
      using session = openSession(model.decoder);
      await session.read(Array.from(encodePrompt(chatml, bytes, messages)));
      const wanted: number[] = [];
      for await (const { tokens } of session.steps(ids.length, options(seed).sampling)) {
        wanted.push(tokens[0]);
      }
      assert.deepEqual(ids, wanted);
    }
  });
}

Deno.test("chat: the last answer is given anew, under another seed another", async () => {
  await using opened = await openTinyChat("polyglu-tiny", 200);
  const { chat } = opened;
  await assert.rejects(listen(chat.again(options(1))), /there is nothing to answer yet/);
  const first = await listen(chat.say("On", options(1)));
  const second = await listen(chat.again(options(2)));
  assert.notEqual(second.text, first.text);
  assert.deepEqual(messagesOf(chat.conversation), [
    { role: "user", content: "On" },
    { role: "assistant", content: second.text },
  ]);
  assert.equal((await listen(chat.again(options(1)))).text, first.text);
  // and what a conversation from elsewhere ends with
  chat.begin([{ role: "user", content: "On" }]);
  assert.equal((await listen(chat.again(options(1)))).text, first.text);
});

Deno.test("chat: an answer ends where the model ends its turn, and says so", async () => {
  await using opened = await openTinyChat("polyglu-tiny", 200, letters);
  const { chat } = opened;
  const hot = (seed: number) =>
    options(seed, { maxTokens: 100, sampling: { temperature: 30, topK: 0, topP: 1, seed } });
  const reasons = new Set<string>();
  for (let seed = 0; reasons.size < 2 && seed < 40; seed++) {
    chat.begin();
    const { answer, ids } = await listen(chat.say("a", hot(seed)));
    reasons.add(answer.reason);
    assert.equal(answer.content, letters.decode(ids));
    assert.equal(answer.tokens, ids.length + (answer.reason === "max_tokens" ? 0 : 1));
  }
  assert.ok(reasons.has("end_of_turn") && reasons.has("end_of_text"), [...reasons].join());
});

// llama.cpp 4036, mlx-vlm PR 1076: characters split over tokens printed as replacement marks.
Deno.test("replay: llama.cpp 4036: a chat shows no half characters, and keeps what it showed", async () => {
  await using opened = await openTinyChat("recycled-core-tiny", 200);
  const { chat } = opened;
  for (const seed of [1, 2, 3]) {
    const { text, ids, answer } = await listen(chat.say("😀 日本", options(seed)));
    assert.equal(text, answer.content);
    assert.equal(text, bytes.decode(ids));
    assert.ok(text.isWellFormed());
  }
});

// nanochat 581, swarmllm 31: what comes of a context that is full.
Deno.test("replay: nanochat 581: a chat whose context is full says so, and goes on by its policy", async () => {
  await using opened = await openTinyChat("neollm-tiny", 160);
  const { chat, model } = opened;
  chat.instruct("Be brief.");
  // stop: the answer ends, the next message is refused, and may be said after a turn was taken back
  const said: string[] = [];
  for (let seed = 1;; seed++) {
    const before = messagesOf(chat.conversation);
    try {
      const { answer } = await listen(chat.say(`turn ${seed}`, options(seed)));
      said.push(answer.reason);
    } catch (error) {
      assert.match(`${error}`, /the conversation comes to \d+ tokens, but .* ends at 160/);
      assert.match(`${Reflect.get(error as Error, "hint")}`, /\/clear.*context slide/);
      assert.deepEqual(messagesOf(chat.conversation), before);
      break;
    }
  }
  assert.ok(said.length >= 3, said.join());
  while (chat.conversation.turns.length > 1) chat.undo();
  await listen(chat.say("again", options(9)));
  // slide: as long as one likes, the system's message and the newest turns are read
  chat.begin();
  let forgotten = 0;
  const slide = { context: "slide" as const };
  for (let seed = 1; seed <= 12; seed++) {
    const told = await listen(chat.say(`turn ${seed}`, options(seed, slide)));
    forgotten += told.forgotten;
    assert.notEqual(told.answer.reason, "context");
    assert.equal(chat.forgotten, forgotten);
    assert.equal(chat.conversation.turns.length, seed); // nothing is lost for who saves it
    const { head, turns } = chat.conversation;
    const asked = [...head, ...turns.slice(forgotten).flat().slice(0, -1)];
    const prompt = encodePrompt(chatml, bytes, asked);
    assert.equal(told.answer.promptTokens, prompt.length);
    assert.ok(prompt.length + told.answer.tokens <= 161);
  }
  assert.ok(forgotten >= 6 && forgotten < 12);
  // what it says then is what the turns that are left give at once
  const last = messagesOf(chat.conversation);
  const { head, turns } = chat.conversation, kept = turns.slice(forgotten).flat();
  chat[Symbol.dispose]();
  using alone = openChat(model);
  alone.begin([...head, ...kept.slice(0, -1)]);
  const { text } = await listen(alone.again(options(12, slide)));
  assert.equal(text, last.at(-1)!.content);
});

// nanochat 581, swarmllm 31: a crash where the prompt fills the context, or nearly.
Deno.test("replay: swarmllm 31: conversations of context − 1, context and context + 1 tokens", async () => {
  await using opened = await openTinyChat("recycled-core-tiny", 120);
  const { chat } = opened, around = encodePrompt(chatml, bytes, [{ role: "user", content: "" }]);
  const message = (tokens: number) => "x".repeat(tokens - around.length);
  for (const context of ["stop", "slide"] as const) {
    for (const short of [1, 0]) {
      chat.begin();
      const { answer } = await listen(chat.say(message(120 - short), options(1, { context })));
      assert.equal(answer.promptTokens, 120 - short);
      assert.deepEqual([answer.reason, answer.tokens], ["context", short + 1]);
    }
    chat.begin();
    const said = listen(chat.say(message(121), options(1, { context })));
    await assert.rejects(said, /the message comes to 121 tokens, but .* ends at 120/);
    assert.equal(chat.conversation.turns.length, 0);
    assert.equal((await listen(chat.say("On", options(1)))).answer.tokens, 16);
  }
});

Deno.test("chat: a long answer lets turns go on its way, and ends where there are none", async () => {
  await using opened = await openTinyChat("veronica-tiny", 160);
  const { chat } = opened, { sampling } = options(3);
  // the likeliest tokens of this model by chance end no turn
  const slide = { context: "slide" as const, sampling: { ...sampling, temperature: 0 } };
  await listen(chat.say("one", options(1)));
  await listen(chat.say("two", options(2)));
  const { answer, forgotten, ids } = await listen(
    chat.say("three", options(3, { ...slide, maxTokens: 1000 })),
  );
  assert.equal(forgotten, 2);
  assert.equal(answer.reason, "context");
  assert.ok(answer.rereadSeconds > 0);
  // as many as the last message leaves room for, wherever turns were let go
  const room = 161 - encodePrompt(chatml, bytes, [{ role: "user", content: "three" }]).length;
  assert.equal(ids.length, room);
  // a message that is too long by itself is refused, whatever may be let go
  const long = "long ".repeat(40), before = messagesOf(chat.conversation);
  await assert.rejects(
    listen(chat.say(long, options(4, slide))),
    /the message comes to \d+ tokens/,
  );
  assert.deepEqual(messagesOf(chat.conversation), before);
  await listen(chat.say("four", options(4, slide)));
});

Deno.test("chat: an answer that is stopped keeps what was said; one that was not begun is not kept", async () => {
  await using opened = await openTinyChat("neollm-tiny", 300);
  const { chat } = opened, controller = new AbortController();
  const { signal } = controller;
  let text = "", reason = "";
  for await (const event of chat.say("On", options(1, { maxTokens: 200, signal }))) {
    text += event.text;
    if (event.kind === "token" && text.length > 3) controller.abort();
    if (event.kind === "answer") reason = event.reason;
  }
  assert.equal(reason, "interrupted");
  assert.equal(messagesOf(chat.conversation).at(-1)!.content, text);
  const { answer } = await listen(chat.say("And", options(2, { signal })));
  assert.deepEqual([answer.reason, answer.tokens], ["interrupted", 0]);
  assert.equal(chat.conversation.turns.length, 1);
  assert.equal((await listen(chat.say("And", options(2)))).answer.tokens, 16);
});

Deno.test("chat: stop texts end an answer; penalties count it, or all that was said", async () => {
  await using opened = await openTinyChat("polyglu-tiny", 300);
  const { chat } = opened;
  const plain = await listen(chat.say("abc", options(1)));
  const stop = plain.text.slice(5, 7);
  const stopped = await listen(chat.again(options(1, { stops: [stop] })));
  assert.equal(stopped.answer.reason, "stop");
  assert.equal(stopped.text, plain.text.slice(0, plain.text.indexOf(stop)));
  const { sampling } = options(1), penalties = { repetition: 1, presence: 0, frequency: 1e4 };
  const once = options(1, { sampling: { ...sampling, temperature: 0, penalties } });
  const { ids } = await listen(chat.again(once));
  assert.equal(new Set(ids).size, ids.length);
  const all = await listen(chat.again({ ...once, penalized: "all" }));
  for (const id of bytes.encode("user\nabcassistant")) assert.ok(!all.ids.includes(id));
});
