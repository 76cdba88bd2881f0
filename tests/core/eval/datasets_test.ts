import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { splitFiles } from "../../../core/eval/dataset_files.ts";
import { dataFinder, type DataPlaces } from "../../../core/eval/datasets.ts";
import type { DatasetRef } from "../../../core/eval/types.ts";
import { withTempDir } from "../../support.ts";

const arc: DatasetRef = {
  path: "allenai/ai2_arc",
  name: "ARC-Easy",
  test_split: "test",
  fewshot_split: "train",
};
const jsonl = '{"id":"a","n":1}\n\n{"id":"b","n":2}\n';

const readSplit = (
  task: { name: string; dataset: DatasetRef },
  split: string,
  places: DataPlaces,
) => dataFinder(places).read(task, split);

async function write(path: string, data: string | Uint8Array): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeFile(path, typeof data === "string" ? new TextEncoder().encode(data) : data);
}

const parquet = (ids: string[]) =>
  new Uint8Array(parquetWriteBuffer({
    columnData: [
      { name: "id", data: ids, type: "STRING" },
      { name: "n", data: ids.map((_, i) => BigInt(i)), type: "INT64" },
    ],
  }));

Deno.test("data sets: a split is found as a file of the task's name, and as folders lie on the hub", async () => {
  const places: Record<string, string | Uint8Array>[] = [
    { "arc_easy.jsonl": jsonl },
    { "arc_easy_test.jsonl": jsonl, "arc_easy_train.jsonl": '{"id":"t"}' },
    { "arc_easy.jsonl.gz": gzipSync(jsonl) },
    { "arc_easy/test.jsonl.zst": zstdCompressSync(jsonl) },
    { "allenai/ai2_arc/ARC-Easy/test-00000-of-00001.parquet": parquet(["a", "b"]) },
    {
      "ai2_arc/ARC-Easy/test-00001-of-00002.parquet": parquet(["b"]),
      "ai2_arc/ARC-Easy/test-00000-of-00002.parquet": parquet(["a"]),
      "ai2_arc/ARC-Challenge/test-00000-of-00001.parquet": parquet(["no"]),
      "ai2_arc/ARC-Easy/train-00000-of-00001.parquet": parquet(["no"]),
    },
    { "ARC-Easy/test-00000-of-00001.parquet": parquet(["a", "b"]), "README.md": "words" },
  ];
  for (const files of places) {
    await withTempDir(async (dir) => {
      for (const [name, data] of Object.entries(files)) await write(join(dir, name), data);
      const { rows } = await readSplit({ name: "arc_easy", dataset: arc }, "test", {
        folders: [dir],
      });
      assert.deepEqual(rows.map(({ id }) => id), ["a", "b"], Object.keys(files).join());
      assert.ok(rows.every(({ n }) => typeof n === "number"));
    });
  }
});

Deno.test("data sets: several folders are asked in turn; what is missing is named with what brings it", () =>
  withTempDir(async (dir) => {
    const asked = { name: "arc_easy", dataset: arc };
    await write(join(dir, "one/arc_easy.jsonl"), jsonl);
    await write(join(dir, "two/arc_easy_train.jsonl"), '{"id":"t"}');
    const folders = [join(dir, "one"), join(dir, "two")];
    const { rows } = await readSplit(asked, "train", { folders });
    assert.deepEqual(rows, [{ id: "t" }]);
    const fails = (split: string, pattern: RegExp, places = { folders: [folders[0]] }) =>
      assert.rejects(readSplit(asked, split, places), (error: Error & { hint?: string }) => {
        assert.match(`${error.message}\n${error.hint}`, pattern);
        return true;
      });
    await fails(
      "train",
      /the split train of allenai\/ai2_arc \(ARC-Easy\) is not there\n.*arc_easy_train\.jsonl; quern fetch allenai\/ai2_arc --dataset --out/,
    );
    await fails("test", /there is no such folder/, { folders: [join(dir, "none")] });
    await write(join(dir, "bad/arc_easy.jsonl"), '{"id":1}\n[2]\n');
    await assert.rejects(
      readSplit(asked, "test", { folders: [join(dir, "bad")] }),
      /not a JSON object/,
    );
    await write(join(dir, "empty/arc_easy.jsonl"), "\n");
    await assert.rejects(
      readSplit(asked, "test", { folders: [join(dir, "empty")] }),
      /it has no rows/,
    );
  }));

Deno.test("data sets: one of a single configuration also goes by its own name", () =>
  withTempDir(async (dir) => {
    const dataset = { path: "HuggingFaceH4/MATH-500", test_split: "test", fewshot_split: "test" };
    await write(join(dir, "MATH-500.jsonl"), jsonl);
    for (const name of ["math500", "minerva_math500"]) {
      const { rows } = await readSplit({ name, dataset }, "test", { folders: [dir] });
      assert.equal(rows.length, 2);
    }
    await write(join(dir, "ai2_arc.jsonl"), jsonl);
    await assert.rejects(
      readSplit({ name: "arc_easy", dataset: arc }, "test", { folders: [dir] }),
      /is not there/,
    );
  }));

Deno.test("data sets: files of a split are told by words of their paths", () => {
  const mmlu = ["dev", "test", "validation"].flatMap((split) =>
    ["anatomy", "astronomy"].map((name) => `${name}/${split}-00000-of-00001.parquet`)
  );
  assert.deepEqual(splitFiles(mmlu, { name: "anatomy", split: "dev" }), [mmlu[0]]);
  assert.deepEqual(splitFiles(mmlu, { name: "anatomy", split: "validation" }), [mmlu[4]]);
  const hellaswag = ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"];
  assert.deepEqual(splitFiles(hellaswag, { split: "validation" }), [hellaswag[1]]);
  assert.deepEqual(
    splitFiles(["data/lambada_test_en.jsonl", "README.md"], { name: "default", split: "test" }),
    [
      "data/lambada_test_en.jsonl",
    ],
  );
  assert.deepEqual(splitFiles(["val.jsonl", "latest.jsonl"], { split: "validation" }), [
    "val.jsonl",
  ]);
  assert.deepEqual(splitFiles(["latest.jsonl"], { split: "test" }), []);
  assert.deepEqual(splitFiles(["test.jsonl", "test.parquet"], { split: "test" }), ["test.parquet"]);
});
