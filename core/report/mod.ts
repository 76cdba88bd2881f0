/**
 * Reports as pages of one file, from data alone: charts, tables, text.
 *
 * Whoever has numbers to show makes a page of builders, each a pure function from plain data to `Markup`:
 *
 *     const text = page({
 *       title: "routing",
 *       lead: markup`<p>${untrusted}</p>`, // values are escaped
 *       sections: [{ id: "map", title: "Map", content: charts([heatMap({ … }), barChart({ … })]) }],
 *     });
 *
 * - `lineChart`: series of any length over steps or tokens; zoom, values at the pointer, scale of powers
 * - `barChart`: rows of groups, with error bars
 * - `heatMap`: rows × columns as a quantity (one- or two-sided) or as kinds; a picture of one pixel a cell
 * - `table`: numbers in four digits
 *
 * `openRunReader` reads what a run's folder tells so far, `runReport` makes the page of one run or of several.
 *
 * Every chart has a title, axes with units, a legend and its numbers as a table. Pages are dark where the reader's system
 * is, load nothing, and run no script but their own.
 */

export { type Bar, type BarChart, barChart } from "./bar_chart.ts";
export { type Axis, axisText, type Colour, niceTicks, shortNumber } from "./figure.ts";
export { type HeatMap, heatMap, type KindScale, type QuantityScale } from "./heat_map.ts";
export { embedJson, escapeText, type Markup, markup } from "./html.ts";
export { type Line, type LineChart, lineChart } from "./line_chart.ts";
export { xAxes, type XAxis } from "./metric_charts.ts";
export { charts, type Page, page, type Section } from "./page.ts";
export { openRunReader, type RunData } from "./read_run.ts";
export { type ReportOptions, runReport } from "./run_report.ts";
export { type Points, smooth, summarize, type Summary, thin } from "./series.ts";
export { type RunSummary, summaryOf } from "./summary.ts";
export { type Cell, table } from "./table.ts";
