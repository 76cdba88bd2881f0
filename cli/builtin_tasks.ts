/**
 * The tasks that quern carries: the files of `configs/tasks/`, in the program itself.
 *
 * @module
 */
import type { CarriedTask } from "../core/eval/tasks/mod.ts";
import arcChallenge from "../configs/tasks/arc_challenge.yaml" with { type: "text" };
import arcEasy from "../configs/tasks/arc_easy.yaml" with { type: "text" };
import boolq from "../configs/tasks/boolq.yaml" with { type: "text" };
import gsm8k from "../configs/tasks/gsm8k.yaml" with { type: "text" };
import hellaswag from "../configs/tasks/hellaswag.yaml" with { type: "text" };
import lambadaOpenai from "../configs/tasks/lambada_openai.yaml" with { type: "text" };
import math500 from "../configs/tasks/math500.yaml" with { type: "text" };
import minervaMath from "../configs/tasks/minerva_math.yaml" with { type: "text" };
import minervaMath500 from "../configs/tasks/minerva_math500.yaml" with { type: "text" };
import mmlu from "../configs/tasks/mmlu.yaml" with { type: "text" };
import mmluStem from "../configs/tasks/mmlu_stem.yaml" with { type: "text" };
import openbookqa from "../configs/tasks/openbookqa.yaml" with { type: "text" };
import piqa from "../configs/tasks/piqa.yaml" with { type: "text" };
import sciq from "../configs/tasks/sciq.yaml" with { type: "text" };
import winogrande from "../configs/tasks/winogrande.yaml" with { type: "text" };

const texts = {
  arc_challenge: arcChallenge,
  arc_easy: arcEasy,
  boolq,
  gsm8k,
  hellaswag,
  lambada_openai: lambadaOpenai,
  math500,
  minerva_math: minervaMath,
  minerva_math500: minervaMath500,
  mmlu,
  mmlu_stem: mmluStem,
  openbookqa,
  piqa,
  sciq,
  winogrande,
};

/** All of them. */
export const builtinTasks: readonly CarriedTask[] = Object.entries(texts).map(([name, text]) => ({
  name,
  file: `configs/tasks/${name}.yaml`,
  text,
}));
