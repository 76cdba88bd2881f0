/** A model as a PyTorch module: the texts of its parts, put together, and the config that they read. */

import { UserError } from "../../io/errors.ts";
import { type BlocksConfig, blocksOf, type Model } from "../../model/mod.ts";
import type { Clock, Schedule } from "../../optim/mod.ts";
import configuration from "./configuration.py" with { type: "text" };
import header from "./header.py" with { type: "text" };
import modelSource from "./model.py" with { type: "text" };
import { type TorchPart, torchParts } from "./parts.ts";

export const modelingFile = "modeling_quern.py", configurationFile = "configuration_quern.py";

type Family = keyof typeof torchParts;

/** The parts' kinds that a model has, by what they are for. */
function kindsOf(tree: BlocksConfig): Record<Family, Set<string>> {
  const kinds = {
    mixer: new Set(),
    mlp: new Set(),
    residual: new Set(),
    input: new Set(),
  } as Record<Family, Set<string>>;
  kinds.input.add(tree.input.kind);
  for (const { mixer, mlp, residual } of tree.blocks) {
    kinds.mixer.add(mixer.kind);
    kinds.residual.add(residual.kind);
    if (mlp.kind === "polymorphic") { for (const { kind } of mlp.branches) kinds.mlp.add(kind); }
    kinds.mlp.add(mlp.kind);
  }
  return kinds;
}

const tableNames: Record<Exclude<Family, "input">, string> = {
  mixer: "MIXERS",
  mlp: "MLPS",
  residual: "RESIDUALS",
};

/** The texts of the files that go beside the weights, by name. Parts without a PyTorch form are one error. */
export function torchModule({ config }: Pick<Model, "config">): ReadonlyMap<string, string> {
  const kinds = kindsOf(blocksOf(config)), sources = new Set<string>(), tables: string[] = [];
  const lacking: string[] = [];
  for (const [family, forms] of Object.entries(torchParts) as [Family, object][]) {
    const lines: string[] = [];
    for (const kind of kinds[family]) {
      const part = (forms as Record<string, TorchPart | undefined>)[kind];
      if (!part) lacking.push(`${family} ${kind}`);
      part?.sources.forEach((source) => sources.add(source));
      if (part) lines.push(`"${kind}": ${part.class}`);
    }
    if (family !== "input") tables.push(`${tableNames[family]} = {${lines.join(", ")}}`);
  }
  if (lacking.length > 0) {
    throw new UserError(`there is no PyTorch form of ${lacking.join(", ")}`, { where: "model" });
  }
  const summary = [...kinds.mixer, ...kinds.mlp, ...kinds.residual].join(", ");
  const texts = [
    header.replace("@summary@", summary),
    ...sources,
    `${tables.join("\n")}\n`,
    modelSource,
  ];
  return new Map([
    [modelingFile, texts.map((text) => text.trim()).join("\n\n\n") + "\n"],
    [configurationFile, configuration],
  ]);
}

/** A model's schedules by the path of the part that reads them and by name, with all spans in updates. */
export function plainSchedules(
  { scalars }: Pick<Model, "scalars">,
  clock: Clock,
): Record<string, Record<string, unknown>> {
  const all: Record<string, Record<string, unknown>> = {};
  for (const { name, schedule, readers } of scalars) {
    for (const path of readers) (all[path] ??= {})[name] = inUpdates(schedule, clock);
  }
  return all;
}

function inUpdates(schedule: Schedule, clock: Clock): unknown {
  if (typeof schedule === "number") return schedule;
  if (schedule.kind === "points") {
    const points = schedule.points.map(([span, value]) => [clock.stepsOf(span), value]);
    return { ...schedule, points };
  }
  const warmup = clock.stepsOf(schedule.warmup);
  const stable = "decay" in schedule ? clock.steps - clock.stepsOf(schedule.decay) : 0;
  const steps = Number.isFinite(clock.steps) ? { steps: clock.steps } : { steps: 0 };
  return { ...schedule, warmup, first: Math.max(warmup, stable), ...steps };
}
