/** A comparison as a page of charts. Pure. */

import { barChart, charts, markup, page, table } from "../../report/mod.ts";
import type { ComparedMetric } from "./compare.ts";

export function comparisonPage(
  compared: readonly ComparedMetric[],
  names: readonly [string, string],
): string {
  const label = ({ task, metric }: ComparedMetric) => `${task} ${metric.replace(/,none$/, "")}`;
  const errors = "± 1 standard error";
  const shares = compared.filter(({ a, b }) => Math.max(Math.abs(a), Math.abs(b)) <= 1);
  const drawn = shares.length > 0 ? shares : compared;
  const both = barChart({
    title: "Both models",
    names: { label: "task and metric" },
    values: { label: "value" },
    groups: names,
    errors,
    rows: drawn.map((one) => ({
      name: label(one),
      bars: [{ value: one.a, error: one.a_stderr }, { value: one.b, error: one.b_stderr }],
    })),
  });
  const deltas = barChart({
    title: "Differences",
    note: "By document where both answered the same ones.",
    names: { label: "task and metric" },
    values: { label: "second less first" },
    groups: ["difference"],
    errors,
    rows: drawn.map((one) => ({
      name: label(one),
      bars: [{ value: one.delta, error: one.stderr }],
    })),
  });
  const numbers = table(
    ["task", "metric", names[0], names[1], "difference", "standard error", "by"],
    compared.map(({ task, metric, a, b, delta, stderr, by }) => [
      task,
      metric,
      a,
      b,
      delta,
      stderr,
      by,
    ]),
  );
  return page({
    title: "Evaluations compared",
    lead: markup`<p>${names[1]} against ${names[0]}.</p>`,
    sections: [
      { id: "charts", title: "Charts", content: charts([both, deltas]) },
      { id: "numbers", title: "Numbers", content: numbers },
    ],
  });
}
