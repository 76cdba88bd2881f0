/**
 * What a chat costs beside `quern generate`, and what keeping its cache saves: of a model with keys and values alone, and
 * of one whose state is a sum. On the cpu device with one thread. `deno run -A tests/bench/chat.ts`
 */

import { generate, openChat, openSession, type Sampling } from "../../core/generate/mod.ts";
import { chatml } from "../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../core/text/special_tokens.ts";
import { byteTokenizer } from "../../core/text/tokenizer.ts";
import { openTiny, someIds } from "../core/generate/tiny_decoders.ts";
import { interleave } from "./interleave.ts";

const tokenizer = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
// the likeliest tokens of these models by chance end nothing
const sampling: Sampling = { temperature: 0, topK: 0, topP: 1, seed: 1 };
const maxTokens = 200, vocab = tokenizer.vocabSize, capacity = 1280;

function perToken({ tokens, decodeSeconds }: { tokens: number; decodeSeconds: number }) {
  return tokens === maxTokens ? decodeSeconds * 1000 / tokens : undefined;
}

for (const name of ["llama-5m", "neollm-tiny"]) {
  await using opened = await openTiny(name, { capacity, vocab });
  await using counting = await openTiny(name, { capacity, vocab, penalties: "counted" });
  const model = { tokenizer, beginning: undefined };
  const plain = { ...model, decoder: opened.decoder };
  const chatted = { ...model, decoder: counting.decoder, template: chatml };
  const settings = { maxTokens, sampling };
  /** Milliseconds a token of an answer, undefined where it ends early. */
  const ofChat = async (text: string) => {
    using chat = openChat(chatted);
    for await (const event of chat.say(text, settings)) {
      if (event.kind === "answer") return perToken(event);
    }
    return undefined;
  };
  const ofText = async (text: string) => {
    for await (const event of generate(plain, text, settings)) {
      if (event.kind === "end") return perToken(event);
    }
    return undefined;
  };
  let text = "";
  for (let i = 0; text === "" && i < 100; i++) {
    const tried = `Once upon a time ${i}`;
    if (await ofChat(tried) !== undefined && await ofText(tried) !== undefined) text = tried;
  }
  const decoding = await interleave({ generate: () => ofText(text), chat: () => ofChat(text) });
  const speed = (ms: number) => `${Math.round(1000 / ms).toLocaleString("en-US")} tokens/s`;
  const { generate: alone, chat } = decoding;
  if (!alone || !chat) throw new Error("nothing was measured");
  console.log(
    `${name}: an answer of ${maxTokens} tokens at ${speed(chat.best)}, a text at ` +
      `${speed(alone.best)}: ${(alone.best / chat.best).toFixed(2)} times`,
  );

  using session = openSession(counting.decoder);
  const before = someIds(1000, 1, vocab), answer = someIds(40, 2, vocab);
  const second = [...before, ...answer, ...someIds(24, 3, vocab)];
  const reading = async (ids: readonly number[]) => {
    const began = performance.now();
    await session.read(ids);
    await counting.device.idle();
    return performance.now() - began;
  };
  const turns = await interleave({
    async kept() {
      await session.read(second); // all that runs here ran before
      await session.read([...before, ...answer]); // as while somebody types
      return await reading(second);
    },
    async "with the answer"() {
      await session.read(second);
      await session.read(before);
      return await reading(second);
    },
    async anew() {
      session.reset();
      return await reading(second);
    },
    async "token by token"() {
      const began = performance.now();
      for (let i = 0; i < 20; i++) await counting.decoder.read([before], [0], before.length - 2);
      await counting.device.idle();
      session.reset();
      return (performance.now() - began) * 50;
    },
  }, { rounds: 21 });
  const { kept, "with the answer": joined, anew, "token by token": single } = turns;
  if (!kept || !joined || !anew || !single) throw new Error("nothing was measured");
  console.log(
    `${name}: 24 new tokens after 1,040 are read in ${kept.best.toFixed(1)} ms, with an answer ` +
      `of 40 in ${joined.best.toFixed(1)} ms; all of them in ${anew.best.toFixed(1)} ms, ` +
      `${(anew.best / kept.best).toFixed(0)} and ${(anew.best / joined.best).toFixed(0)} times`,
  );
  console.log(
    `${name}: a prompt of 1,000 tokens in one pass beside steps of one (chunks of 16 that are ` +
      `padding but for one): ${(single.best / anew.best).toFixed(1)} times as fast`,
  );
}
