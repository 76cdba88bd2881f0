/**
 * `quern grow`: a trained run with one more branch in its polymorphic mlps.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { plural, shellWord } from "../core/io/words.ts";
import type { Grown } from "../core/train/mod.ts";
import { numberBetween, parseNumber, parsePath, wholeNumber } from "./options.ts";
import { formatCount } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";
import { version } from "./version.ts";

const help = `
The new run stands where the old one stood: same step, data, schedules and moments; its config.yaml has the branch.
The branch writes nothing at first and gets little of the weight: the router's logit for it is as much for every
token, 2 · tau below its least bias, so that the others keep their ratios.

With --alone routers and new branches are trained alone for so many steps (freeze: in the new config.yaml), and
branches forced with --force-prob meanwhile; after that all are trained.

Examples:
  quern grow runs/veronica --branch swiglu --out runs/veronica-4
  quern grow runs/veronica --branch depthwise_conv --intermediate-size 256 --alone 500 --out runs/veronica-4
  quern pretrain --resume runs/veronica-4 --set steps=2000`;

/** Kinds of branches. Held against the parts by a test: the help must not load them. */
export const branchKinds = [
  "swiglu",
  "glu",
  "gelu",
  "leaky_relu_squared",
  "polynorm",
  "depthwise_conv",
] as const;

/** The command with its options. */
export function growCommand(): CommandUnknownOpts {
  return new Command("grow")
    .summary("add a branch to a trained model's polymorphic mlps")
    .description(
      "Adds a branch to every polymorphic mlp of a trained run, as a new run that goes on from there.",
    )
    .argument("<checkpoint>", "run folder, or one of its checkpoints")
    .addOption(
      new Option("--branch <kind>", "what is added").choices(branchKinds).makeOptionMandatory(),
    )
    .requiredOption("--out <folder>", "folder of the new run", parsePath)
    .addOption(
      new Option(
        "--intermediate-size <n>",
        "hidden units of the branch (default: as many as the widest that is there)",
      ).argParser(wholeNumber(1)),
    )
    .addOption(
      new Option(
        "--router-bias <x>",
        "what routers begin with for the branch (default: their least bias - 2 tau)",
      ).argParser(parseNumber),
    )
    .addOption(
      new Option("--alone <steps>", "train routers and new branches alone first")
        .argParser(wholeNumber(0)).default(0),
    )
    .addOption(
      new Option("--force-prob <p>", "how often a branch is forced meanwhile")
        .argParser(numberBetween(0, 1)).default(0.1),
    )
    .option("--json", "print the result as one JSON object", false)
    .option("--quiet", "say nothing but errors", false)
    .addHelpText("after", help)
    .action(async (from, { branch, out, alone, forceProb, json, quiet, ...rest }) => {
      const { growRun } = await import("../core/train/mod.ts");
      const grown = await growRun({
        from,
        out,
        branch,
        intermediate_size: rest.intermediateSize,
        routerBias: rest.routerBias,
        alone: { steps: alone, forceProb },
        session: { version, command: ["quern", ...Deno.args] },
      });
      if (json) console.log(JSON.stringify(summaryOf(grown, out)));
      else if (!quiet) {
        printFolded(describe(grown, out, alone));
        console.error(`go on: quern pretrain --resume ${shellWord(out)}${moreSteps(grown, alone)}`);
      }
    });
}

/** What `--json` prints; the names are stable. */
function summaryOf({ checkpoint, step, branch, layers, biases, params }: Grown, out: string) {
  return {
    out,
    from: checkpoint,
    step,
    branch,
    layers,
    router_biases: biases,
    params_before: params.before,
    params: params.after,
  };
}

function describe(
  { step, branch, layers, biases, params }: Grown,
  out: string,
  alone: number,
): string {
  const [least, most] = [Math.min(...biases), Math.max(...biases)].map((x) => x.toFixed(3));
  return [
    `${out}: step ${formatCount(step)}; ${plural(layers, "layer")} with one more branch: ` +
    `${branch.kind}, ${formatCount(branch.intermediate_size)} wide`,
    `  ${formatCount(params.after)} parameters, ${formatCount(params.before)} before`,
    `  routers begin with a bias of ${least === most ? least : `${least} to ${most}`} for it`,
    ...(alone > 0
      ? [`  until step ${formatCount(step + alone)} routers and new branches are trained alone`]
      : []),
  ].join("\n");
}

/** What a run that is done needs to go on. */
function moreSteps({ step, steps }: Grown, alone: number): string {
  return steps !== undefined && steps <= step + alone ? ` --set steps=${2 * (step + alone)}` : "";
}
