/** Text as HTML: whatever is put into it is escaped, unless it is markup itself. */

/** HTML that is whole and safe to put into a page. */
export interface Markup {
  readonly html: string;
}

type Piece = Markup | string | number | undefined | false | readonly Piece[];

/** A template whose values are escaped, but for markup; lists are joined, nothing is left out as nothing. */
export function markup(texts: TemplateStringsArray, ...pieces: readonly Piece[]): Markup {
  return {
    html: texts.map((text, i) => `${i > 0 ? render(pieces[i - 1]) : ""}${text}`).join(""),
  };
}

function render(piece: Piece): string {
  if (piece === undefined || piece === false) return "";
  if (typeof piece === "string" || typeof piece === "number") return escapeText(String(piece));
  return "html" in piece ? piece.html : piece.map(render).join("");
}

const entities: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text that stays text between tags and in quoted attributes. Control characters, which HTML forbids, become visible. */
export function escapeText(text: string): string {
  return text
    .replace(/[&<>"']/g, (letter) => entities[letter])
    .replace(
      /(?![\t\n])\p{Cc}/gu,
      (control) => control < " " ? String.fromCharCode(0x2400 + control.charCodeAt(0)) : "\ufffd",
    );
}

/** Data for a page's scripts. No text in it can end the element: a `<` never stands in it. */
export function embedJson(name: string, value: unknown): Markup {
  const json = JSON.stringify(value).replaceAll("<", "\\u003c");
  return { html: `<script type="application/json" class="${escapeText(name)}">${json}</script>` };
}
