/** A model as an artifact: which form each tensor takes, what that costs, and the file. */

import { type Model, modelPartOf, namedParams } from "../model/mod.ts";
import type { Tensors } from "../io/tensors.ts";
import { type Artifact, encodeArtifact, type EncodedArtifact, type Packing } from "./artifact.ts";
import { type Choice, fitBudget, type Fitted, formCosts, relativeImportance } from "./budget.ts";
import { type Compression, compressions } from "./compression.ts";
import { type Form, publishedForms, store, type Stored, type Weight } from "./forms.ts";
import type { LevelOptions } from "./levels.ts";

/** How a model is brought to levels. */
export interface PackOptions extends LevelOptions {
  /** Of matrices; tables are int8, and small tensors f16. `fit`: whatever fits the budget. */
  readonly matrices: Form | "fit";
  /** Tensors of no more numbers stay f16. */
  readonly small: number;
  readonly packing: Packing;
  readonly compressions: readonly Compression[];
  /** Bytes that the file, and what counts besides, may take. */
  readonly budget?: number | undefined;
  /** Bytes that count against the budget besides the file. */
  readonly besides?: number | undefined;
}

/** What tensors of a part cost when that part alone is brought to its least form, by the part's name: any unit. */
export type PartCosts = ReadonlyMap<string, number>;

export interface Packed {
  readonly encoded: EncodedArtifact;
  readonly artifact: Artifact;
  readonly forms: ReadonlyMap<string, Form>;
  /** With a budget: whether the file keeps to it; `full` where all is as exact as can be, and less than it. */
  readonly outcome: Fitted<unknown>["outcome"] | undefined;
}

function weightsOf(model: Model, file: Tensors): (Weight & { readonly role: string })[] {
  return namedParams(model.params).map(({ path, shape, role }) => ({
    name: path,
    shape,
    role,
    read: () => file.read(path) as Float32Array,
  }));
}

/** The forms of tensors where no budget chooses them. */
export function givenForms(
  model: Model,
  { matrices, small }: Pick<PackOptions, "matrices" | "small">,
): Map<string, Form> {
  const params = namedParams(model.params).map((param) => ({ ...param, name: param.path }));
  return publishedForms(params, matrices === "fit" ? "int5" : matrices, small);
}

/** Tensors in these forms. */
export function storeAll(
  model: Model,
  file: Tensors,
  forms: ReadonlyMap<string, Form>,
  options: LevelOptions,
): Stored[] {
  return weightsOf(model, file).map((weight) => store(weight, forms.get(weight.name)!, options));
}

/** The artifact of a model, not yet written. */
export function packModel(
  model: Model,
  file: Tensors,
  facts: Artifact["facts"],
  options: PackOptions,
  costs: PartCosts = new Map(),
): Packed {
  const { packing, budget, besides = 0 } = options;
  const make = (forms: ReadonlyMap<string, Form>, tries: readonly Compression[]) => {
    const artifact = { facts, tensors: storeAll(model, file, forms, options) };
    return { artifact, encoded: encodeArtifact(artifact, packing, tries) };
  };
  if (options.matrices !== "fit" || budget === undefined) {
    const forms = givenForms(model, options), made = make(forms, options.compressions);
    if (budget === undefined) return { ...made, forms, outcome: undefined };
    const isOver = made.encoded.bytes.length + besides > budget;
    return { ...made, forms, outcome: isOver ? "over" : "fits" };
  }
  const [first] = compressions.filter((one) => options.compressions.includes(one));
  const { forms, made, outcome } = fitBudget(
    choicesOf(model, file, options, costs),
    budget - besides,
    (forms) => make(forms, [first]),
    ({ encoded }) => encoded.bytes.length,
  );
  const rest = options.compressions.filter((one) => one !== first);
  const other = rest.length > 0 ? encodeArtifact(made.artifact, packing, rest) : undefined;
  const isSmaller = other && other.bytes.length < made.encoded.bytes.length;
  const tried = { ...made.encoded.tried, ...other?.tried };
  return {
    artifact: made.artifact,
    encoded: { ...(isSmaller ? other : made.encoded), tried },
    forms,
    outcome,
  };
}

/** Forms from the least up; small tensors have f16 alone. */
const fitting: readonly Form[] = ["int5", "int6", "int8", "f16"];

/** What each tensor may become, and how much its error matters: by its part's measured cost, if there is one. */
function choicesOf(
  model: Model,
  file: Tensors,
  options: PackOptions,
  costs: PartCosts,
): Choice[] {
  const least = givenForms(model, options);
  const choices = weightsOf(model, file).map((weight) => {
    const isSmall = least.get(weight.name) === "f16", values = weight.read();
    return {
      name: weight.name,
      costs: formCosts({ ...weight, read: () => values }, isSmall ? ["f16"] : fitting, options),
      importance: relativeImportance(values),
    };
  });
  if (costs.size === 0) return choices;
  // a part's cost is shared out by relative errors: its sum at the least forms is what was measured
  const errors = new Map<string, number>(), most = Math.max(...costs.values());
  for (const { name, costs: [{ error }], importance } of choices) {
    const part = modelPartOf(name);
    errors.set(part, (errors.get(part) ?? 0) + error * importance);
  }
  return choices.map((choice) => {
    const part = modelPartOf(choice.name), cost = Math.max(most / 1000, costs.get(part) ?? 0);
    const share = errors.get(part)! > 0 ? cost / errors.get(part)! : 0;
    return { ...choice, importance: choice.importance * share };
  });
}
