/**
 * `quern sft --show`: conversations as a model is given them, with what it is trained on marked.
 *
 * @module
 */
import process from "node:process";
import { styleText } from "node:util";
import { plural } from "../core/io/words.ts";
import type { EncodedConversation, EncodedPiece } from "../core/text/chat/mod.ts";
import { sectionSplitter } from "../core/text/sections.ts";
import type { Tokenizer } from "../core/text/tokenizer.ts";

/** What becomes of a conversation: `whole` and `truncated` ones are trained on. */
export type ShownOutcome = "whole" | "truncated" | "dropped" | "masked" | "skipped";

/** A conversation to show, or one that was left out. */
export interface ShownConversation {
  /** File and line, or row. */
  readonly where: string;
  readonly outcome: ShownOutcome;
  /** As it is trained on, cut if it was; absent where it is left out. */
  readonly conversation?: EncodedConversation | undefined;
  /** Tokens before it was cut. */
  readonly tokens?: number | undefined;
}

/** How conversations are shown. */
export interface ShowSettings {
  readonly tokenizer: Tokenizer;
  /** So many are shown; those that are left out on the way are counted. */
  readonly count: number;
  readonly ids: "shown" | "hidden";
  readonly format: "text" | "json";
  /** Whether stdout takes colours; as its terminal and NO_COLOR say unless given. */
  readonly colours?: "on" | "off";
}

/** The lines of the first conversations, and of what was left out before the last of them. */
export async function* showExamples(
  conversations: AsyncIterable<ShownConversation> | Iterable<ShownConversation>,
  settings: ShowSettings,
): AsyncGenerator<string> {
  const counts = { whole: 0, truncated: 0, dropped: 0, masked: 0, skipped: 0 };
  const hasColours = settings.colours === undefined ? takesColours() : settings.colours === "on";
  const paint = hasColours ? colourPainter : plainPainter;
  let shown = 0;
  if (settings.count > 0) {
    for await (const item of conversations) {
      counts[item.outcome]++;
      if (item.conversation === undefined) continue;
      const example = { ...item, conversation: item.conversation };
      if (settings.format === "json") yield JSON.stringify(jsonOf(example, settings));
      else yield* linesOf(example, settings, paint);
      if (++shown === settings.count) break;
    }
  }
  if (settings.format === "json") yield JSON.stringify({ counts });
  else {
    yield paint.faint(`── ${summaryOf(counts)}`);
    if (shown > 0) yield paint.legend;
  }
}

type Example = ShownConversation & { readonly conversation: EncodedConversation };

function takesColours(): boolean {
  return styleText("bold", "x", { stream: process.stdout }) !== "x";
}

/** Text in a style, or with signs that say the same. */
interface Painter {
  /** What is trained on, this much. */
  trained(text: string, weight: number): string;
  /** A special token. */
  control(text: string): string;
  faint(text: string): string;
  readonly legend: string;
}

const factor = (weight: number) => weight === 1 ? "" : `${Number(weight.toPrecision(6))}× `;

const plainPainter: Painter = {
  trained: (text, weight) => `⟦${factor(weight)}${text}⟧`,
  control: (text) => text,
  faint: (text) => text,
  legend: "⟦…⟧ is trained on; \\<…> is text that only looks like a special token",
};

type Style = Parameters<typeof styleText>[0];

/** Each line has its style for itself, as a pager shows lines alone. */
const styled = (style: Style, text: string) =>
  text.split("\n")
    .map((line) => line === "" ? "" : styleText(style, line, { validateStream: false }))
    .join("\n");

const colourPainter: Painter = {
  trained: (text, weight) => styled("yellow", factor(weight)) + styled("green", text),
  control: (text) => styled("bold", text),
  faint: (text) => styled("dim", text),
  legend: `${styled("green", "green")} is trained on, ${
    styled("bold", "bold")
  } is one special token`,
};

function* linesOf(
  { where, conversation, tokens }: Example,
  { tokenizer, ids }: ShowSettings,
  paint: Painter,
): Generator<string> {
  const { ids: { length }, weights, pieces } = conversation;
  const counted = tokens !== undefined && tokens > length
    ? `cut to ${length} of ${plural(tokens, "token")}`
    : plural(length, "token");
  const targets = weights.filter((weight) => weight > 0);
  const isWeighted = targets.some((weight) => weight !== 1);
  const sum = isWeighted ? `, ${sumOf(weights)} in weight` : "";
  yield paint.faint(`── ${where}: ${counted}, ${targets.length} trained on${sum}`);
  const parts = runsOf(pieces).map(({ weight, pieces }) => {
    const texts = pieces.map((piece) => {
      const text = textOf(piece, conversation, tokenizer);
      return piece.isControl ? paint.control(text) : visible(text, tokenizer);
    });
    return weight > 0 ? paint.trained(texts.join(""), weight) : texts.join("");
  });
  yield parts.join("").replace(/\n$/, "");
  if (ids === "shown") yield* idLines(conversation, tokenizer, paint);
}

/** Pieces side by side of the same weight. */
function runsOf(pieces: readonly EncodedPiece[]) {
  const runs: { weight: number; pieces: EncodedPiece[] }[] = [];
  for (const piece of pieces) {
    const last = runs.at(-1);
    if (last?.weight === piece.weight) last.pieces.push(piece);
    else runs.push({ weight: piece.weight, pieces: [piece] });
  }
  return runs;
}

/** A piece's text, of one that was cut what is left. */
function textOf(
  { text, isControl, isCut, start, end }: EncodedPiece,
  { ids }: EncodedConversation,
  tokenizer: Tokenizer,
): string {
  return isCut && !isControl ? tokenizer.decode(ids.subarray(start, end)) : text;
}

/**
 * A text with names of special tokens told from the tokens, and nothing in it that would move the
 * cursor.
 */
function visible(text: string, { specialTokens }: Tokenizer): string {
  const sections = sectionSplitter([...specialTokens.keys()])(text);
  return sections.map((section, i) => i % 2 === 1 ? `\\${section}` : section).join("")
    .replaceAll(/[^\P{Cc}\n\t]|\p{Bidi_Control}/gu, (sign) => {
      const point = sign.codePointAt(0)!;
      // the pictures of control characters stand in their order
      return point < 0x20 ? String.fromCodePoint(0x2400 + point) : `\\u{${point.toString(16)}}`;
    });
}

/** A token a line: its place, its id, its weight where it has one, its text. */
function* idLines({ ids, weights }: EncodedConversation, tokenizer: Tokenizer, paint: Painter) {
  const names = new Map([...tokenizer.specialTokens].map(([name, id]) => [id, name]));
  const widths = [String(ids.length - 1).length, String(tokenizer.vocabSize).length];
  for (const [i, id] of ids.entries()) {
    const name = names.get(id), weight = weights[i];
    const text = name === undefined
      ? JSON.stringify(visible(tokenizer.decode([id]), tokenizer))
      : paint.control(name);
    const place = `${String(i).padStart(widths[0])} ${String(id).padStart(widths[1])}`;
    yield `${paint.faint(place)}  ${weight > 0 ? paint.trained(text, weight) : text}`;
  }
}

function jsonOf(
  { where, outcome, conversation, tokens }: Example,
  { tokenizer, ids: wanted }: ShowSettings,
) {
  const { ids, weights, pieces } = conversation;
  return {
    where,
    outcome,
    tokens: ids.length,
    ...tokens === undefined ? {} : { tokens_before: tokens },
    targets: weights.filter((weight) => weight > 0).length,
    weight: sumOf(weights),
    pieces: pieces.map((piece) => ({
      text: textOf(piece, conversation, tokenizer),
      control: piece.isControl,
      ...piece.answer === undefined ? {} : { message: piece.answer },
      weight: piece.weight,
      ...wanted === "shown" ? { ids: [...ids.subarray(piece.start, piece.end)] } : {},
    })),
  };
}

function sumOf(weights: Float32Array): number {
  return Number(weights.reduce((sum, weight) => sum + weight, 0).toPrecision(6));
}

const outcomeWords: Readonly<Record<ShownOutcome, string>> = {
  whole: "whole",
  truncated: "cut at the row's end",
  dropped: "left out as too long",
  masked: "left out, without anything to learn",
  skipped: "left out with faults",
};

/** "5 conversations read: 3 whole, 1 cut at the row's end, 1 left out as too long". */
function summaryOf(counts: Readonly<Record<ShownOutcome, number>>): string {
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const found = Object.entries(counts).filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${outcomeWords[name as ShownOutcome]}`);
  return `${plural(all, "conversation")} read${found.length > 0 ? `: ${found.join(", ")}` : ""}`;
}
