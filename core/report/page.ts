/** A page that is one file: styles, scripts and data within, nothing from elsewhere. */

import { createHash } from "node:crypto";
import uplotStyle from "uplot/style" with { type: "text" };
import uplotScript from "uplot/script" with { type: "text" };
import chartsScript from "./browser/charts.js" with { type: "text" };
import liveScript from "./browser/live.js" with { type: "text" };
import style from "./browser/style.css" with { type: "text" };
import { type Markup, markup } from "./html.ts";

export interface Section {
  /** Of letters; links lead to it. */
  readonly id: string;
  readonly title: string;
  readonly content: Markup;
}

export interface Page {
  readonly title: string;
  /** Below the title. */
  readonly lead: Markup;
  readonly sections: readonly Section[];
  /** Served by `quern watch`: it follows what changes. Names what it shows. */
  readonly revision?: string | undefined;
}

/** The whole file. No script runs in it but its own, whose hashes it names, and nothing is loaded. */
export function page({ title, lead, sections, revision }: Page): string {
  const isLive = revision !== undefined;
  const scripts = [uplotScript, chartsScript, ...(isLive ? [liveScript] : [])];
  const hashes = scripts.map((text) =>
    `'sha256-${createHash("sha256").update(text).digest("base64")}'`
  );
  const policy = [
    "default-src 'none'",
    `script-src ${hashes.join(" ")}`,
    "style-src 'unsafe-inline'",
    "img-src data:",
    ...(isLive ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const links = sections.map(({ id, title }) => markup`<a href="#${id}">${title}</a>\n`);
  const parts = sections.map(({ id, title, content }) =>
    markup`<section id="${id}" data-part><h2>${title}</h2>\n${content}</section>\n`
  );
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${{ html: `${uplotStyle}\n${style}` }}</style>
</head>
<body>
<main${isLive && markup` data-revision="${revision}"`}>
<header id="top" data-part>
<h1>${title}</h1>
${lead}
<nav aria-label="Sections">${links}</nav>
</header>
${isLive && markup`<p class="live" role="status">connecting</p>\n`}${parts}</main>
${scripts.map((text) => markup`<script>${{ html: text }}</script>\n`)}</body>
</html>
`.html;
}

/** Figures side by side where there is room. */
export function charts(figures: readonly Markup[]): Markup {
  return markup`<div class="charts">${figures}</div>`;
}
