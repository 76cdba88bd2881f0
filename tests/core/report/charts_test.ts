import assert from "node:assert/strict";
import { inflateSync } from "node:zlib";
import fc from "fast-check";
import {
  barChart,
  embedJson,
  escapeText,
  heatMap,
  lineChart,
  markup,
  niceTicks,
  page,
  shortNumber,
  smooth,
  summarize,
  thin,
} from "../../../core/report/mod.ts";
import { encodePng } from "../../../core/report/png.ts";
import { requireWholeCharts } from "./pages.ts";

const step = { label: "step" }, nats = { label: "loss", unit: "nats a token" };

/** Any text, and such as is likely to break out of HTML. */
const hostile = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom("</script><script>alert(1)</script>", "<!--", "\"'><img src=x onerror=alert(1)>"),
);

Deno.test("report: no text leaves the place in HTML that it is put into", () => {
  fc.assert(fc.property(hostile, (text) => {
    const { html } = markup`<p title="${text}">${text}</p>`;
    const [, inTitle, inside] = html.match(/^<p title="([^"<>]*)">([^<>]*)<\/p>$/s) ?? [];
    assert.ok(inside !== undefined && inTitle !== undefined, html);
    const read = inside.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
      .replaceAll("&#39;", "'").replaceAll("&amp;", "&");
    assert.equal(
      read.replace(/[\u2400-\u241f\ufffd]/g, ""),
      text.replace(/(?![\t\n])[\p{Cc}\u2400-\u241f\ufffd]/gu, ""),
    );
  }));
});

Deno.test("report: data in a page are read back as they were, and end no script", () => {
  fc.assert(fc.property(fc.jsonValue(), hostile, (value, text) => {
    const { html } = embedJson("data", { value, text });
    const [, json] =
      html.match(/^<script type="application\/json" class="data">([^<]*)<\/script>$/s) ?? [];
    assert.equal(JSON.stringify(JSON.parse(json)), JSON.stringify({ value, text }));
  }));
});

Deno.test("report: a thinned series keeps its ends, its spikes and its order, and is bounded", () => {
  const series = fc.array(
    fc.tuple(fc.integer({ min: 1, max: 50 }), fc.double({ noDefaultInfinity: true })),
    {
      minLength: 1,
      maxLength: 2000,
      size: "max",
    },
  );
  fc.assert(
    fc.property(series, fc.integer({ min: 1, max: 60 }), (steps, columns) => {
      let at = 0;
      const points = { x: steps.map(([gap]) => at += gap), y: steps.map(([, y]) => y) };
      const kept = thin(points, columns);
      assert.ok(kept.x.length <= Math.max(4 * columns, Math.min(points.x.length, 4 * columns)));
      assert.deepEqual(kept.x, kept.x.toSorted((a, b) => a - b));
      for (const end of [0, -1]) assert.equal(kept.x.at(end), points.x.at(end));
      const [before, after] = [summarize(points), summarize(kept)];
      assert.equal(after?.least.y, before?.least.y);
      assert.equal(after?.most.y, before?.most.y);
    }),
    { numRuns: 60 },
  );
});

Deno.test("report: a spike of one step in 100,000 is drawn, and the chart stays small", () => {
  const x = Float64Array.from({ length: 100_000 }, (_, i) => i + 1),
    y = x.map((x) => 4 / Math.sqrt(x));
  y[77_777] = 123.5;
  y[33_333] = NaN;
  const { html } = lineChart({ title: "Loss", x: step, y: nats, lines: [{ name: "raw", x, y }] });
  const { lines } = dataOf(html);
  assert.equal(lines[0].y[lines[0].x.indexOf(77_778)], 123.5);
  assert.ok(lines[0].x.length <= 3200);
  assert.ok(html.length < 80_000, `${html.length} characters`);
});

function dataOf(html: string) {
  return JSON.parse(html.match(/class="data">(.*?)<\/script>/s)![1]);
}

Deno.test("report: smoothing has no bias to its beginning, and passes over what is not finite", () => {
  assert.deepEqual(
    [...smooth([2, 2, NaN, 2], 10)].map((y) => y.toFixed(12)),
    Array(4).fill("2.000000000000"),
  );
  // two points: weights are e^(-1/span) and 1, so the mean is (e⁻¹·0 + 1)/(1 + e⁻¹) for span 1
  assert.ok(Math.abs(smooth([0, 1], 1)[1] - 1 / (1 + Math.exp(-1))) < 1e-12); // float64 rounding
});

const bars = barChart({
  title: "Scores",
  names: { label: "task" },
  values: { label: "accuracy", unit: "part of all" },
  groups: ["base", "sft"],
  rows: [
    { name: "arc_easy", bars: [{ value: 0.25, error: 0.02 }, { value: 0.31, error: 0.02 }] },
    { name: "change", bars: [{ value: -0.1 }, undefined] },
  ],
});

Deno.test("report: charts of each kind, with few points or none, have title, axes, legend and numbers", () => {
  const three = { x: [1, 2, 3], y: [3, 2, 1] }, none = { x: [], y: [] };
  const many = Array.from({ length: 30 }, (_, i) => ({ name: `layer ${i}`, ...three }));
  const figures = [
    lineChart({ title: "Three", x: step, y: nats, lines: [{ name: "raw", ...three }] }),
    lineChart({ title: "None", x: step, y: nats, lines: [{ name: "raw", ...none }] }),
    lineChart({
      title: "Not finite",
      x: step,
      y: nats,
      lines: [{ name: "raw", x: [1], y: [NaN] }],
    }),
    lineChart({ title: "Many", x: step, y: nats, lines: many }),
    bars,
    heatMap({ ...map, scale: { label: "entropy", unit: "nats" } }),
    heatMap({ ...map, title: "Kinds", scale: { label: "kind", kinds: ["relu", "silu"] } }),
  ];
  for (const { html } of figures) assert.equal(requireWholeCharts(html).length, 1);
});

const map = {
  title: "Map",
  x: { label: "neuron" },
  y: { label: "layer" },
  rows: 2,
  columns: 3,
  values: [0, 1, NaN, 1, 0, 0.5],
};

Deno.test("report: bars go from zero to either side; error bars are as long as the error to each", () => {
  const styles = [
    ...bars.html.matchAll(/class="(fill|error)" style="left: ([\d.]+)%; width: ([\d.]+)%/g),
  ];
  // the axis goes from -0.1 to 0.4, so 0 stands at a fifth
  assert.deepEqual(styles.map(([, kind, left, width]) => [kind, Number(left), Number(width)]), [
    ["fill", 20, 50],
    ["error", 66, 8],
    ["fill", 20, 62],
    ["error", 78, 8],
    ["fill", 0, 20],
  ]);
});

Deno.test("report: axes end at round numbers that hold the range", () => {
  assert.deepEqual(niceTicks(-0.1, 0.33), [-0.1, 0, 0.1, 0.2, 0.3, 0.4]);
  assert.deepEqual(niceTicks(0, 0), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  fc.assert(
    fc.property(
      fc.double({ min: -1e9, max: 1e9, noNaN: true }),
      fc.double({ min: -1e9, max: 1e9, noNaN: true }),
      (a, b) => {
        const [least, most] = [Math.min(a, b), Math.max(a, b)], ticks = niceTicks(least, most);
        // ticks have 12 digits, and what no picture shows is no range
        const slack = 1e-6 * (Math.abs(least) + Math.abs(most)) + 1e-300;
        assert.ok(ticks[0] <= least + slack && ticks.at(-1)! >= most - slack && ticks.length <= 12);
      },
    ),
  );
});

Deno.test("report: numbers are shown in four digits", () => {
  const texts = [0, 1.68234, 12345.6, 0.000_123_4, -0.5, NaN, undefined].map(shortNumber);
  assert.deepEqual(texts, ["0", "1.682", "12,346", "1.23e-4", "-0.5", "–", "–"]);
});

Deno.test("report: a map's picture holds a pixel for each cell, by the palette", () => {
  const pixels = Uint8Array.of(0, 1, 2, 2, 1, 0);
  const bytes = encodePng({
    width: 3,
    height: 2,
    pixels,
    palette: [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
  });
  const view = new DataView(bytes.buffer), chunks = new Map<string, Uint8Array>();
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
    const name = new TextDecoder().decode(bytes.subarray(at + 4, at + 8));
    chunks.set(name, bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  assert.deepEqual([...chunks.keys()], ["IHDR", "PLTE", "IDAT", "IEND"]);
  assert.deepEqual([...inflateSync(chunks.get("IDAT")!)], [0, 0, 1, 2, 0, 2, 1, 0]);
  // the checksum that every PNG ends with
  assert.deepEqual([...bytes.slice(-4)], [0xae, 0x42, 0x60, 0x82]);
});

Deno.test("report: a page loads nothing, and names its scripts by their hashes", async () => {
  const text = page({
    title: "</title><b>",
    lead: markup``,
    sections: [{ id: "a", title: "A", content: bars }],
  });
  assert.ok(!/\b(?:src|href)="(?!data:|#)/.test(text.replace(/<script>.*?<\/script>/gs, "")));
  assert.ok(text.includes(`<title>${escapeText("</title><b>")}</title>`));
  const scripts = [...text.matchAll(/<script>(.*?)<\/script>/gs)].map(([, script]) => script);
  assert.equal(scripts.length, 2);
  for (const script of scripts) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script));
    assert.ok(text.includes(escapeText(`'sha256-${new Uint8Array(digest).toBase64()}'`)));
  }
});
