/**
 * The configs that quern carries: the files of `configs/`, in the program itself, so that they are there
 * wherever it was put.
 *
 * @module
 */
import { didYouMean, UserError } from "../core/io/errors.ts";
import llama5m from "../configs/llama-5m.yaml" with { type: "text" };
import neollm110m from "../configs/neollm-110m.yaml" with { type: "text" };
import neollmTiny from "../configs/neollm-tiny.yaml" with { type: "text" };
import polyglu06b from "../configs/polyglu-0.6b.yaml" with { type: "text" };
import polygluTiny from "../configs/polyglu-tiny.yaml" with { type: "text" };
import quickstart from "../configs/quickstart.yaml" with { type: "text" };
import recycledCoreB from "../configs/recycled-core-b.yaml" with { type: "text" };
import recycledCoreTiny from "../configs/recycled-core-tiny.yaml" with { type: "text" };
import recycledCore from "../configs/recycled-core.yaml" with { type: "text" };
import sftChat from "../configs/sft-chat.yaml" with { type: "text" };
import sftPolyglu from "../configs/sft-polyglu.yaml" with { type: "text" };
import shakespeareChar from "../configs/shakespeare-char.yaml" with { type: "text" };
import veronica24l from "../configs/veronica-24l.yaml" with { type: "text" };
import veronicaTiny from "../configs/veronica-tiny.yaml" with { type: "text" };

export interface BuiltinConfig {
  readonly name: string;
  /** Its place in the sources, for messages. */
  readonly file: string;
  readonly text: string;
}

const texts = {
  "llama-5m": llama5m,
  "neollm-110m": neollm110m,
  "neollm-tiny": neollmTiny,
  "polyglu-0.6b": polyglu06b,
  "polyglu-tiny": polygluTiny,
  quickstart,
  "recycled-core": recycledCore,
  "recycled-core-b": recycledCoreB,
  "recycled-core-tiny": recycledCoreTiny,
  "sft-chat": sftChat,
  "sft-polyglu": sftPolyglu,
  "shakespeare-char": shakespeareChar,
  "veronica-24l": veronica24l,
  "veronica-tiny": veronicaTiny,
};

/** All of them, by name. */
export const builtinConfigs: readonly BuiltinConfig[] = Object.entries(texts).map((
  [name, text],
) => ({ name, file: `configs/${name}.yaml`, text }));

/** The one of that name, or of that path in the sources, if there is one. */
export function builtinConfig(name: string): BuiltinConfig | undefined {
  const file = name.replaceAll("\\", "/").replace(/^\.\//, "");
  return builtinConfigs.find((config) => config.name === name || config.file === file);
}

/** What is said where neither a file nor a config that quern carries has a name. */
export function noSuchConfig(name: string, what: string): UserError {
  const names = builtinConfigs.map(({ name }) => name);
  const bare = name.replace(/^(.*[\\/])?configs[\\/]/, "").replace(/\.ya?ml$/, "");
  return new UserError(`${what}${didYouMean(bare, names)}`, {
    where: name,
    hint: `quern carries ${names.join(", ")}`,
  });
}

/** The first sentence of the comment on top, after the line for editors. */
export function summaryOf({ text }: BuiltinConfig): string {
  const comment = text.match(/^(?:# (?!yaml-).*\n)+/m)?.[0].replaceAll(/^# /gm, "") ?? "";
  return comment.replaceAll("\n", " ").match(/^.*?\.(?= |$)/)?.[0] ?? comment.trim();
}
