/** Lines of `metrics.jsonl` as series of numbers. */

/** Of one name: its values at rising steps. What was not finite is NaN. */
export interface Series {
  readonly steps: number[];
  readonly values: number[];
}

/** A limit of `router_health` that was broken at a step. */
export interface Fault {
  readonly step: number;
  readonly text: string;
}

export interface Metrics {
  /** By name, in the order in which they came; parts of a list or a table as `name/part`. */
  readonly series: ReadonlyMap<string, Series>;
  /** The last time that each limit was broken, and how often it was. */
  readonly faults: ReadonlyMap<string, Fault & { readonly count: number }>;
  /** Lines that are none of a run's. */
  readonly unread: number;
}

/** Gathers lines, one after the other. */
export function gatherMetrics() {
  const series = new Map<string, Series>(), faults = new Map<string, Fault & { count: number }>();
  let unread = 0;
  return {
    add(line: string): void {
      const record = recordIn(line);
      if (record === undefined) return void unread++;
      for (const [name, value] of scalarsIn(record)) {
        const known = series.get(name) ?? { steps: [], values: [] };
        series.set(name, known);
        known.steps.push(record.step);
        known.values.push(value);
      }
      for (const [limit, text] of Object.entries(textsIn(record.router_health))) {
        faults.set(limit, { step: record.step, text, count: (faults.get(limit)?.count ?? 0) + 1 });
      }
    },
    clear(): void {
      series.clear();
      faults.clear();
      unread = 0;
    },
    metrics: (): Metrics => ({ series, faults, unread }),
  };
}

type StepRecord = Readonly<Record<string, unknown>> & { readonly step: number };

/** What a line of a run's says; undefined of any other text. */
export function recordIn(line: string): StepRecord | undefined {
  try {
    const record = JSON.parse(line);
    return typeof record?.step === "number" ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Every number of a record but its step, by name. What was measured of an average of the weights goes by the average's name. */
export function scalarsIn(record: StepRecord): [name: string, value: number][] {
  const { step: _, weights, router_health: _faults, ...rest } = record;
  const all = numbersIn(rest);
  return typeof weights === "string" ? all.map(([name, x]) => [`${weights}/${name}`, x]) : all;
}

/** JSON has null for what is not finite. */
function numbersIn(value: unknown, path = ""): [string, number][] {
  if (typeof value === "number") return [[path, value]];
  if (value === null) return [[path, NaN]];
  if (typeof value !== "object") return [];
  return Object.entries(value).flatMap(([name, inner]) =>
    numbersIn(inner, path === "" ? name : `${path}/${name}`)
  );
}

function textsIn(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] =>
      typeof entry[1] === "string"
    ),
  );
}
