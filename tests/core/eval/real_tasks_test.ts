/**
 * The tasks on real rows, which may lie beside the checkout. The hashes are of what a Python script made of the same
 * files by the specification's formulas: of each document `query + "\0" + continuation + "\0"` for each request, then
 * `str(target) + "\0"`, all in UTF-8.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { builtinTasks } from "../../../cli/builtin_tasks.ts";
import { isEquivalent, lastBoxed } from "../../../core/eval/answers/mod.ts";
import { catalog } from "../../../core/eval/tasks/mod.ts";
import type { Doc, Task } from "../../../core/eval/types.ts";
import { testWithShared } from "../../support.ts";

const { tasks } = catalog(builtinTasks);

const recorded: readonly [task: string, file: string, rows: number, hash: string][] = [
  ["arc_easy", "arc_easy", 2376, "7db1dd7475af0beb"],
  ["arc_challenge", "arc_challenge", 1172, "20c981cae7d83513"],
  ["openbookqa", "openbookqa", 500, "a6f5b159524e056c"],
  ["piqa", "piqa", 1838, "0a9170ac901dd8b1"],
  ["boolq", "boolq", 1000, "ada57f7478fa25b0"],
  ["winogrande", "winogrande", 1267, "50fa29b28378f36a"],
  ["lambada_openai", "lambada_openai", 2500, "e5a338134c1536c4"],
  ["gsm8k", "gsm8k", 1319, "5f64fded1c00ef38"],
  ["math500", "math", 1000, "ab0441dea88e5ca3"],
];

const rowsOf = (path: string): Doc[] =>
  Deno.readTextFileSync(path).trimEnd().split("\n").map((line) => JSON.parse(line));

for (const [name, file, count, hash] of recorded) {
  testWithShared(`real rows: all of ${name} become the same requests as in Python`, [
    `data/eval/${file}.jsonl`,
  ], ([path]) => {
    const task = tasks.get(name)!, docs = task.documents(rowsOf(path));
    assert.equal(docs.length, count);
    assert.equal(requestsHash(task, docs), hash);
  });
}

function requestsHash(task: Task, docs: readonly Doc[]): string {
  const sum = createHash("sha256");
  for (const doc of docs) {
    for (const request of task.requests(doc)) {
      assert.ok(request.kind !== "loglikelihood_rolling");
      const continuation = request.kind === "loglikelihood" ? request.continuation : "";
      sum.update(`${request.query}\0${continuation}\0`);
    }
    sum.update(`${task.target(doc)}\0`);
  }
  return sum.digest("hex").slice(0, 16);
}

testWithShared("real rows: every right answer of gsm8k is right, by either filter", [
  "data/eval/gsm8k.jsonl",
], ([path]) => {
  const gsm8k = tasks.get("gsm8k")!;
  for (const doc of gsm8k.documents(rowsOf(path))) {
    const text = gsm8k.shot(doc).answer;
    assert.deepEqual(gsm8k.measure(doc, [{ kind: "generate_until", text, tokens: 1 }]), {
      "exact_match,strict-match": 1,
      "exact_match,flexible-extract": 1,
    }, text);
  }
});

testWithShared("real rows: every right answer of MATH is right, in either form", [
  "data/eval/math.jsonl",
], ([path]) => {
  const rows = rowsOf(path), math500 = tasks.get("math500")!;
  for (const doc of math500.documents(rows)) {
    assert.ok(isEquivalent(lastBoxed(doc.solution as string)!, doc.answer as string));
    const text = ` We find $${doc.answer}$.`;
    const measured = math500.measure(doc, [{ kind: "generate_until", text, tokens: 1 }]);
    assert.deepEqual(measured, { "exact_match,none": 1 }, text);
  }
  const minerva = tasks.get("minerva_math500")!;
  for (const doc of minerva.documents(rows)) {
    const text = ` ${minerva.shot(doc).answer}`;
    const measured = minerva.measure(doc, [{ kind: "generate_until", text, tokens: 1 }]);
    assert.deepEqual(measured, { "exact_match_lite,none": 1 }, text);
  }
});
