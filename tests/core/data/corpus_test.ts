import assert from "node:assert/strict";
import { makeCorpus } from "../../../core/data/corpus.ts";

Deno.test("corpus: the seed decides it, the size is kept, the text is plain", () => {
  const corpus = makeCorpus({ seed: 1, bytes: 100_000 });
  assert.deepEqual(makeCorpus({ seed: 1, bytes: 100_000 }), corpus);
  assert.notDeepEqual(makeCorpus({ seed: 2, bytes: 100_000 }).documents, corpus.documents);
  const text = corpus.documents.join("\n");
  assert.ok(Math.abs(text.length - 100_000) < 1000);
  assert.match(text, /^[ -~\n]*$/);
});

Deno.test("corpus: held-out sums are never shown, in neither order, and are right", () => {
  const { documents, heldOut } = makeCorpus({ seed: 3 });
  const shown = new Set(documents);
  assert.equal(heldOut.length, 200);
  for (const { question, answer } of heldOut) {
    const [, a, b] = question.match(/^What is (\d+) \+ (\d+)\?$/) ?? [];
    assert.equal(answer, ` ${Number(a) + Number(b)}.`);
    assert.ok(!shown.has(question + answer));
    assert.ok(!shown.has(`What is ${b} + ${a}?${answer}`));
  }
  assert.equal(new Set(heldOut.map(({ question }) => question)).size, 200);
});
