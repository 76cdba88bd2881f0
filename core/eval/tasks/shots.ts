/** Which examples stand before a document. */

import { plural } from "../../io/words.ts";
import { UserError } from "../../io/errors.ts";
import type { ChooseShots, Doc } from "../types.ts";
import { pythonRandom } from "./python_random.ts";

/**
 * The first of the pool for every document; or as the harness draws them: afresh for each document in their order, by
 * one stream of Python's random numbers. Where the pool holds the document itself one more is taken, and it is left out.
 */
export const chooseShots: ChooseShots = (pool, documents, options) => {
  const { sampler, count, seed, isSameSplit } = options;
  if (count === 0) return documents.map(() => []);
  const wanted = isSameSplit ? count + 1 : count;
  if (wanted > pool.length) throw tooFew(count, pool.length, isSameSplit);
  const random = pythonRandom(seed), first = pool.slice(0, wanted);
  return documents.map((document) => {
    const drawn = sampler === "first_n"
      ? first
      : random.sample(pool.length, wanted).map((place) => pool[place]);
    if (!isSameSplit) return drawn;
    return drawn.filter((shot) => !isSameDoc(shot, document)).slice(0, count);
  });
};

/** Rows that read the same are the same, as they are to the harness. */
function isSameDoc(a: Doc, b: Doc): boolean {
  return a === b || JSON.stringify(a, plain) === JSON.stringify(b, plain);
}

const plain = (_: string, value: unknown) => typeof value === "bigint" ? String(value) : value;

function tooFew(count: number, rows: number, isSameSplit: boolean): UserError {
  const own = isSameSplit ? ", one of which is the document itself" : "";
  return new UserError(
    `${plural(count, "shot")} cannot be taken from ${plural(rows, "row")}${own}`,
    {
      hint: "ask for fewer: --num-fewshot",
    },
  );
}
