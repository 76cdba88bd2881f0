/**
 * ChatML: `<|im_start|>role`, a line feed, the content, `<|im_end|>`, a line feed.
 *
 * @module
 */
import { chatFault, type Message } from "./message.ts";
import type { ChatTemplate, Piece } from "./template.ts";

const start = "<|im_start|>", end = "<|im_end|>";

/** The same as Jinja, in the form in which most models state it. */
const source = "{% for message in messages %}" +
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** No system turn is made up where there is none. */
export const chatml: ChatTemplate = {
  name: "chatml",
  source,
  controlTokens: [start, end],
  endTokens: [end],
  namedTokens: {},
  render: (messages, { prompt }) => [
    ...messages.flatMap(turn),
    ...(prompt === "assistant" ? [control(start), text("assistant\n")] : []),
  ],
};

function turn({ role, content, extra }: Message, index: number): Piece[] {
  const [unused] = Object.keys(extra ?? {});
  if (unused !== undefined) {
    throw chatFault(
      `messages[${index}].${unused} has no place in ChatML`,
      "write it into the content, or choose a template that shows it",
    );
  }
  const answer = role === "assistant" ? index : undefined;
  return [
    control(start),
    text(`${role}\n`),
    text(content, answer),
    control(end, answer),
    // behind the end of turn a model is stopped: what follows is never its to write
    text("\n"),
  ];
}

function text(text: string, answer?: number): Piece {
  return { text, isControl: false, answer };
}

function control(text: string, answer?: number): Piece {
  return { text, isControl: true, answer };
}
