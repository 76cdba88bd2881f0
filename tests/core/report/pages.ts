/** What every chart of a page must have. */

import assert from "node:assert/strict";

/** Checks each chart's title, axes, legend and numbers, and returns their titles. */
export function requireWholeCharts(page: string): string[] {
  const figures = [...page.matchAll(/<figure class="chart[^>]*>.*?<\/figure>/gs)].map(([all]) =>
    all
  );
  return figures.map((figure) => {
    const [, title] = figure.match(/<h3>([^<]+)<\/h3>/) ?? [];
    assert.ok(title, figure);
    assert.ok(figure.includes(`aria-label="${title}"`), title);
    for (const side of ["x", "y"]) {
      assert.match(
        figure,
        new RegExp(`<div class="axis ${side}">[^<]+</div>`),
        `${title}: axis ${side}`,
      );
    }
    const [, legend] = figure.match(/<div class="legend[^>]*aria-label="Legend">(.*?)<\/div>/s) ??
      [];
    assert.match(legend ?? "", /<i class="(?:swatch|ramp)/, `${title}: legend`);
    assert.match(figure, /<(?:div|img) [^>]*(?:aria-label|alt)="[^"]{10,}"/, `${title}: in words`);
    assert.match(figure, /<table>.*<tbody>.*<td/s, `${title}: numbers`);
    return title;
  });
}
