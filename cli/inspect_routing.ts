/**
 * `quern inspect --routing`: what a model does inside while it reads.
 *
 * @module
 */
import type { Insides, Measured } from "../core/inspect/insides.ts";
import { openChosenDevice } from "./device_options.ts";
import type { InspectOptions, View } from "./inspect.ts";
import { describeInsides, type Helpers } from "./inspect_routing_text.ts";
import { defaultFields } from "./reading_options.ts";
import { formatCount } from "./ui/numbers.ts";
import { progressLine } from "./ui/progress.ts";

/** Tokens of a text that are read unless the user says otherwise: as many as PolyGLU's own tools take. */
const readTokens = 512;

export async function viewRouting(path: string, options: InspectOptions): Promise<View> {
  const { openAny } = await import("../core/open/mod.ts");
  const { dominant, halfLife, lookInside } = await import("../core/inspect/insides.ts");
  const { layerOf, meanUndecided, routingPage, undecided } = await import(
    "../core/inspect/routing_page.ts"
  );
  const helpers = { dominant, halfLife, layerOf, meanUndecided, undecided };
  const { placedTexts } = await import("../core/inspect/texts.ts");
  const { checkpoint, average, limit, maxTokens = readTokens, categoryField } = options;
  const fields = options.field ?? defaultFields;
  const texts = await placedTexts(options.routing ?? [], { fields, categoryField });
  using opened = await openAny(path, { checkpoint, average });
  await using device = await openChosenDevice(options);
  const progress = progressLine(options.quiet ? "quiet" : "normal");
  const found = await lookInside(
    opened,
    device,
    texts,
    { maxTokens, limit },
    (part) => progress.update(() => `read ${Math.floor(100 * part)} % of the texts`),
  ).finally(() => progress.end());
  const title = `${opened.checkpoint} (step ${formatCount(opened.step)})`;
  return {
    text: () => describeInsides(title, found, helpers),
    json: () => jsonOf(opened.checkpoint, opened.step, found, helpers),
    html: () => Promise.resolve(routingPage(title, found)),
  };
}

/** What `--json` prints; the names are stable. */
function jsonOf(
  checkpoint: string,
  step: number,
  { findings, categories }: Insides,
  { dominant, meanUndecided, undecided }: Helpers,
) {
  const measured = ({ units: _, entropy, ...rest }: Measured) => ({
    ...rest,
    ...entropy && {
      entropy: { mean: entropy.mean, std: entropy.std, of_mean: entropy.ofMean },
    },
  });
  return {
    kind: "routing",
    checkpoint,
    step,
    categories,
    entropies: Object.fromEntries(
      [...meanUndecided(undecided(findings))].map(([name, { value, most }]) => [
        name,
        { mean: value, most, normalized: value / most },
      ]),
    ),
    findings: findings.map((finding) => ({
      path: finding.path,
      name: finding.name,
      kind: finding.kind,
      over: finding.over,
      labels: finding.labels,
      most: finding.most ?? null,
      all: measured(finding.all),
      by_category: Object.fromEntries(
        Object.entries(finding.byCategory).map(([name, one]) => [name, measured(one)]),
      ),
      ...finding.over === "units" && { unit_choices: [...dominant(finding)] },
    })),
  };
}
