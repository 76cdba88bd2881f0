/**
 * What `quern inspect` found, as tables: for a terminal, and as a page.
 *
 * @module
 */
import { plural } from "../core/io/words.ts";
import type { Tokenizer } from "../core/text/tokenizer.ts";
import { type Cell, quoted, textTable } from "./ui/table.ts";

/** One table. */
export interface Section {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

/** Tables below each other; the first has no header. */
export function lines(about: Section, sections: readonly Section[]): string {
  const width = Math.max(...about.rows.map(([name]) => String(name).length));
  return [
    about.title,
    ...about.rows.map(([name, value]) => `  ${String(name).padEnd(width)}  ${value}`),
    ...sections.flatMap(({ title, header, rows }) => ["", title, ...textTable(header, rows)]),
  ].join("\n");
}

/** The same as a page. */
export async function pageOf(
  title: string,
  about: Section,
  sections: readonly Section[],
): Promise<string> {
  const { markup, page, table } = await import("../core/report/mod.ts");
  const cells = (rows: Section["rows"]) => rows.map((row) => [...row]);
  return page({
    title,
    lead: markup`<div class="scroll">${table(["", ""], cells(about.rows))}</div>`,
    sections: sections.map(({ title, header, rows }, i) => ({
      id: `part-${i}`,
      title,
      content: markup`<div class="scroll">${table(header, cells(rows))}</div>`,
    })),
  });
}

/** How a tokenizer encodes a text, where one is given. */
export async function encodedSections(
  tokenizer: Tokenizer,
  text: string | undefined,
): Promise<Section[]> {
  if (text === undefined) return [];
  const { encodedText } = await import("../core/inspect/tokenizer_facts.ts");
  const { tokens, bytes, isLossless } = encodedText(tokenizer, text);
  return [{
    title: `${quoted(text)}: ${plural(tokens.length, "token")}, ${plural(bytes, "byte")}${
      isLossless ? "" : "; decoded it is another text"
    }`,
    header: ["place", "id", "token"],
    rows: tokens.map(({ id, text }, i): Cell[] => [i, id, quoted(text)]),
  }];
}
