/**
 * Chat templates in Jinja.
 *
 * @module
 */
import { messageOf, UserError } from "../../io/errors.ts";
import { answersOf, findAnswers, type GivenMessage, type Span, type Writing } from "./answers.ts";
import { hasGenerationBlocks, markNames, readBlocks, withBlockMarks } from "./generation_blocks.ts";
import { jinjaProgram } from "./jinja_program.ts";
import { chatFault } from "./message.ts";
import type { ChatTemplate, NamedTokens, Piece } from "./template.ts";
import { strftime } from "./strftime.ts";
import { cutter, type Disguise, disguise } from "./typed_control.ts";

/** What a template is told besides the messages. */
export interface JinjaSettings {
  /** The file that it is from. */
  readonly name: string;
  /** Its variables `bos_token` and the like. */
  readonly namedTokens?: NamedTokens;
  /** Names of special tokens that are known to be such. */
  readonly specialTokens?: readonly string[];
  /** Some of them that end an answer, too. */
  readonly endTokens?: readonly string[];
  /** What it takes for today. */
  readonly today?: Date;
}

/** Writes messages, with or without a prompt behind them; `marks` are for generation blocks. */
type Write = (
  messages: readonly GivenMessage[],
  prompt: boolean,
  marks?: { readonly start: string; readonly end: string },
) => string;

/** The template of a Jinja source. */
export function jinjaTemplate(source: string, settings: JinjaSettings): ChatTemplate {
  const { name, namedTokens = {}, today = new Date() } = settings;
  const hasBlocks = hasGenerationBlocks(source);
  const { run, literals } = jinjaProgram(hasBlocks ? withBlockMarks(source) : source, name);
  const now = (format: unknown) => strftime(today, String(format));
  const write: Write = (messages, prompt, marks) => {
    const blocks = { [markNames.start]: marks?.start ?? "", [markNames.end]: marks?.end ?? "" };
    // Hugging Face's function names tools and documents always
    const always = { tools: null, documents: null, strftime_now: now };
    const given = { ...always, ...namedTokens, ...blocks, messages };
    try {
      return run({ ...given, add_generation_prompt: prompt });
    } catch (error) {
      throw chatFault(
        `the chat template cannot write this conversation: ${messageOf(error)}`,
        `mend the messages, or choose another template than ${name}`,
      );
    }
  };
  const sample = sampleOf(write);
  const controlTokens = controlNames([...literals, ...sample.parts, sample.prompt], settings);
  const turnEnds = turnEndsOf(sample, controlTokens), eos = namedTokens.eos_token;
  const more = [...eos === undefined ? [] : [eos], ...settings.endTokens ?? []];
  return {
    name,
    source,
    controlTokens,
    endTokens: unique([...turnEnds.slice(0, 1), ...more]),
    namedTokens,
    render(messages, { prompt, required, specialTokens }) {
      const secret = disguise(specialTokens.keys(), [messages, source, namedTokens]);
      const given = messages.map(({ role, content, extra }) => ({
        ...secret.hide({ ...extra, content }),
        role,
      }));
      const writing: Writing = {
        messages: given,
        secret,
        turnEnds,
        isPrompted: prompt === "assistant",
        write: remembering(write),
      };
      const marked = write(given, writing.isPrompted, secret.marks);
      const { whole, spans } = hasBlocks
        ? readBlocks(marked, secret.marks, answersOf(given), required)
        : { whole: marked, spans: findAnswers(writing, marked, required) };
      return cutPieces(secret, whole, spans);
    },
  };
}

/**
 * Each beginning of a conversation is written once; a key is enough, as all are of the same one.
 */
function remembering(write: Write): Writing["write"] {
  const written = new Map<string, string>();
  return (messages, prompt) => {
    const key = `${messages.length} ${prompt}`, text = written.get(key) ?? write(messages, prompt);
    written.set(key, text);
    return text;
  };
}

function cutPieces(secret: Disguise, whole: string, spans: readonly Span[]): Piece[] {
  const pieces: Piece[] = [];
  const take = (start: number, end: number, answer?: number) => {
    for (const { text, isControl } of secret.cut(whole.slice(start, end))) {
      if (text !== "") {
        pieces.push({ text: isControl ? text : secret.show(text), isControl, answer });
      }
    }
  };
  let at = 0;
  for (const { start, end, answer } of spans) {
    take(at, start);
    take(start, end, answer);
    at = end;
  }
  take(at, whole.length);
  return pieces;
}

/** Characters that no template holds, as contents. */
const sampleContents = ["\u{10fffd}", "\u{10fffc}", "\u{10fffb}", "\u{10fffa}"];

/**
 * A short conversation as it is written, cut at its four contents; with the prompt for its last
 * answer.
 */
function sampleOf(write: Write): { readonly parts: readonly string[]; readonly prompt: string } {
  const turns = sampleContents.map((content, i) => ({
    role: ["user", "assistant"][i % 2],
    content,
  }));
  for (const messages of [turns, [{ role: "system", content: "!" }, ...turns]]) {
    try {
      const parts = write(messages, false).split(new RegExp(sampleContents.join("|")));
      return { parts, prompt: write(messages.slice(0, -1), true) };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
    }
  }
  return { parts: [], prompt: "" };
}

/**
 * The special token that stands directly behind the last answer, and behind one before it if that
 * is another: not one that begins the next turn, which would stand before the first turn, too.
 */
function turnEndsOf(
  { parts }: ReturnType<typeof sampleOf>,
  controlTokens: readonly string[],
): string[] {
  if (parts.length !== sampleContents.length + 1) return [];
  const cut = cutter(controlTokens);
  const firstOf = (text: string) => {
    const [before, control] = cut(text);
    return control !== undefined && before.text.trim() === "" ? [control.text] : [];
  };
  const heads = cut(parts[0]).map(({ text }) => text);
  return unique([
    ...firstOf(parts[4]),
    ...firstOf(parts[2]).filter((name) => !heads.includes(name)),
  ]);
}

/** The form that the names of special tokens have in most models. */
const namePattern = /<[|｜][^\s<>|｜]{1,60}[|｜]>/g;

/** Names of special tokens in what a template may write. */
function controlNames(
  texts: readonly string[],
  { namedTokens = {}, specialTokens = [] }: JinjaSettings,
): string[] {
  const { bos_token, eos_token, pad_token } = namedTokens;
  const shaped = texts.flatMap((text) => text.match(namePattern) ?? []);
  return unique([...shaped, bos_token, eos_token, pad_token, ...specialTokens])
    .filter((name) => name !== undefined && texts.some((text) => text.includes(name)))
    .map(String);
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}
