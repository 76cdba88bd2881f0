import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { parquetWriteBuffer } from "hyparquet-writer";
import { zstdCompressSync } from "node:zlib";
import { openShards } from "../../core/data/shard_reader.ts";
import { quern, root, startQuern, testWithShared, withTempDir } from "../support.ts";
import { byteLevelBpe } from "../core/text/fixtures.ts";

/** The text of a split of a data folder. */
async function textOf(folder: string, split: "train" | "val"): Promise<string> {
  using reader = await openShards(folder);
  const { tokens, read } = reader.splits[split];
  const ids = new Int32Array(tokens);
  read(0, ids);
  return reader.tokenizer.decode(ids);
}

Deno.test("quern tokenize: a text file becomes shards that hold its text", async () => {
  await withTempDir(async (cwd) => {
    const text = "To be, or not to be: that is the question.\n".repeat(50);
    await Deno.writeTextFile(`${cwd}/a.txt`, text);
    for (const tokenizer of ["byte", "character"]) {
      const args = ["tokenize", "a.txt", "--out", tokenizer, "--tokenizer", tokenizer];
      const { code, stdout, stderr } = await quern(args, { cwd });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /train {2}1,936 tokens in 1 document, 1\.00 bytes a token/);
      const [train, val] = [
        await textOf(`${cwd}/${tokenizer}`, "train"),
        await textOf(`${cwd}/${tokenizer}`, "val"),
      ];
      assert.equal(train + val, text);
      assert.equal(val.length, text.length / 10);
    }
  });
});

Deno.test("quern tokenize: jsonl with a Hugging Face tokenizer, result as JSON", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/tokenizer.json`, JSON.stringify(byteLevelBpe()));
    const lines = Array.from({ length: 20 }, (_, i) => JSON.stringify({ story: `the end ${i}` }));
    await Deno.writeTextFile(`${cwd}/a.jsonl`, lines.join("\n"));
    const args = ["tokenize", "a.jsonl", "--field", "story", "--tokenizer", "tokenizer.json"];
    const { code, stdout, stderr } = await quern([...args, "--out", "d", "--json"], { cwd });
    assert.equal(code, 0, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.train.documents, 18);
    assert.equal(result.val.documents, 2);
    assert.equal(result.dtype, "u16");
    assert.match(await textOf(`${cwd}/d`, "train"), /^the end 0the end 1/);
  });
});

Deno.test("replay: microsoft/promptflow 3670: BOM, CRLF and blank lines give the same token file", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/clean.jsonl`, '{"text":"one"}\n{"text":"two"}\n');
    await Deno.writeTextFile(`${cwd}/messy.jsonl`, '\uFEFF{"text":"one"}\r\n\r\n{"text":"two"}');
    for (const name of ["clean", "messy"]) {
      const { code, stdout } = await quern(
        ["tokenize", `${name}.jsonl`, "--out", name, "--quiet"],
        { cwd },
      );
      assert.deepEqual({ code, stdout }, { code: 0, stdout: "" });
    }
    for (const file of ["index.json", "train-00000.bin", "train.documents.bin"]) {
      assert.deepEqual(
        await Deno.readFile(`${cwd}/clean/${file}`),
        await Deno.readFile(`${cwd}/messy/${file}`),
      );
    }
  });
});

Deno.test("quern tokenize: a bad document stops with its place and leaves nothing, or is skipped", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.jsonl`, '{"text":"one"}\n{"text":2}\n{"text":"three"}\n');
    const stopped = await quern(["tokenize", "a.jsonl", "--out", "d"], { cwd });
    assert.equal(stopped.code, 1);
    assert.equal(stopped.stdout, "");
    assert.match(stopped.stderr, /^error: a\.jsonl:2: the field "text" is not text\nhint: /);
    assert.deepEqual([...Deno.readDirSync(cwd)].map((entry) => entry.name), ["a.jsonl"]);

    const skipped = await quern(["tokenize", "a.jsonl", "--out", "d", "--on-error", "skip"], {
      cwd,
    });
    assert.equal(skipped.code, 0);
    assert.match(skipped.stderr, /skipped a\.jsonl:2: the field "text" is not text/);
    assert.match(skipped.stdout, /1 document skipped/);
  });
});

Deno.test("quern tokenize: input without text is an error", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "\n\n");
    const { code, stderr } = await quern(["tokenize", "a.txt", "--out", "d"], { cwd });
    assert.equal(code, 1);
    assert.match(stderr, /there is no text in the input/);
  });
});

Deno.test("quern tokenize: wrong usage ends with code 2 and says what to try", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "text");
    const fails = async (args: string[], message: RegExp) => {
      const { code, stderr } = await quern(["tokenize", ...args], { cwd });
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    };
    await fails(["a.txt"], /required option '--out <folder>'/);
    await fails(["none.txt", "--out", "d"], /none\.txt: there is no such file/);
    await fails(["a.txt", "--out", "d", "--tokenizr", "byte"], /Did you mean --tokenizer/);
    await fails(
      ["a.txt", "--out", "d", "--tokenizer", "bytes"],
      /bytes: there is no such tokenizer file \(did you mean "byte"\?\)/,
    );
    await fails(
      ["a.txt", "--out", "d", "--tokenizer", "charcter"],
      /charcter: there is no such tokenizer file \(did you mean "character"\?\)/,
    );
    await fails(["a.txt", "--out", "d", "--tokenizer", ""], /--tokenizer .*It may not be empty/);
    await fails(["a.txt", "--out", "d", "--val-fraction", ""], /Not a number/);
    await fails(["a.txt", "--out", "d", "--seed", "1x"], /Not a number/);
    await Deno.mkdir(`${cwd}/d`);
    const empty = await quern(["tokenize", "a.txt", "--out", "d"], { cwd });
    assert.equal(empty.code, 0, empty.stderr); // an empty one is as good as none
    await fails(["a.txt", "--out", "d"], /d: the folder exists already\nhint: .*--overwrite/);
  });
});

Deno.test("quern tokenize: a separator cuts documents; --overwrite replaces shards", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "one\n\ntwo\n\nthree\n");
    const args = [
      "tokenize",
      "a.txt",
      "--out",
      "d",
      "--document-separator",
      "\\n\\n",
      "--val-fraction",
      "0",
    ];
    for (const extra of [[], ["--overwrite"]]) {
      const { code, stdout, stderr } = await quern([...args, ...extra], { cwd });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /in 3 documents/);
    }
    assert.equal(await textOf(`${cwd}/d`, "train"), "onetwothree\n");
  });
});

Deno.test("quern tokenize: an empty split is said, and a pipe cannot give a character vocabulary", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "one document");
    const go = (...args: string[]) => quern(["tokenize", "a.txt", ...args], { cwd });
    const all = await go("--out", "all", "--val-fraction", "1");
    assert.match(all.stderr, /all of the text is held out/);
    const few = await go("--out", "few", "--document-separator", "|");
    assert.match(few.stderr, /too few to hold one out/);
    assert.equal((await go("--out", "none", "--val-fraction", "0")).stderr, "");
    if (Deno.build.os === "windows") return;
    const args = ["tokenize", "/dev/null", "--out", "d", "--tokenizer", "character"];
    const { code, stderr } = await quern(args, { cwd });
    assert.match(stderr, /\/dev\/null: a character vocabulary needs a file/);
    assert.equal(code, 2);
  });
});

Deno.test("quern tokenize: what was killed here before is removed; a live process's work is not", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "text");
    const dead = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
    await dead.status;
    const kept = [`.d.partial-${Deno.pid}-ff`, `.other.partial-${dead.pid}-ff`];
    for (const name of [`.d.partial-${dead.pid}-ff`, ...kept]) await Deno.mkdir(`${cwd}/${name}`);
    const { stderr } = await quern(["tokenize", "a.txt", "--out", "d"], { cwd });
    assert.match(stderr, /removed what a stopped process left: \.d\.partial-/);
    const names = [...Deno.readDirSync(cwd)].map(({ name }) => name).sort();
    assert.deepEqual(names, [...kept, "a.txt", "d"].sort());
  });
});

Deno.test("quern tokenize: nothing is left out or counted twice in silence", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.jsonl`, '{"text":"one"}\n{"text":""}\n{"text":" "}\n');
    const go = (...args: string[]) => quern(["tokenize", ...args, "--out", "d"], { cwd });
    const refused = async (message: RegExp, ...args: string[]) => {
      const { code, stderr } = await go(...args);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    };
    await refused(/jsonl has a document a line/, "a.jsonl", "--document-separator", "x");
    await refused(/a\.jsonl: the file is given twice/, "a.jsonl", "a.jsonl");
    await refused(/it is a\.jsonl: leave one out/, "a.jsonl", "./a.jsonl");
    assert.match((await go("a.jsonl")).stdout, /^ {2}2 empty documents left out$/m);
    await Deno.writeTextFile(`${cwd}/b.txt`, "one|two|");
    const ended = await go("b.txt", "--document-separator", "|", "--json", "--overwrite");
    assert.equal(JSON.parse(ended.stdout).empty, 0);
  });
});

Deno.test("quern tokenize: Ctrl-C ends with code 130 and leaves nothing", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/tokenizer.json`, JSON.stringify(byteLevelBpe()));
    const line = JSON.stringify({ text: "the end of the day ".repeat(100) });
    await Deno.writeTextFile(`${cwd}/a.jsonl`, `${line}\n`.repeat(20_000)); // minutes of work
    const child = startQuern(
      ["tokenize", "a.jsonl", "--out", "d", "--tokenizer", "tokenizer.json"],
      { cwd },
    );
    const hasBegun = () =>
      [...Deno.readDirSync(cwd)].some(({ name }) => name.startsWith(".d.partial-"));
    while (!hasBegun()) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGINT");
    const { code, stderr } = await child.output();
    assert.equal(code, 130);
    assert.match(new TextDecoder().decode(stderr), /note: interrupted; nothing was written/);
    assert.deepEqual([...Deno.readDirSync(cwd)].map(({ name }) => name).sort(), [
      "a.jsonl",
      "tokenizer.json",
    ]);
  });
});

testWithShared("quern tokenize: tinyshakespeare has 65 characters and nanoGPT's split", [
  "data/tinyshakespeare.txt",
], async ([path]) => {
  await withTempDir(async (cwd) => {
    const { stdout } = await quern([
      "tokenize",
      path,
      "--out",
      "d",
      "--tokenizer",
      "character",
      "--json",
    ], { cwd });
    const { vocab_size, train, val } = JSON.parse(stdout);
    assert.deepEqual([vocab_size, train.bytes, val.bytes], [65 + 1, 1_003_854, 111_540]);
  });
});

Deno.test("quern tokenize: a folder, a pattern, stdin and compressed files give the same tokens", async () => {
  await withTempDir(async (cwd) => {
    await Deno.mkdir(`${cwd}/in`);
    const lines = Array.from(
      { length: 9 },
      (_, i) => `${JSON.stringify({ q: "why", a: `${i}` })}\n`,
    );
    const pack = (text: string) => zstdCompressSync(new TextEncoder().encode(text));
    const frames = [pack(lines.slice(0, 4).join("")), pack(lines.slice(4).join(""))];
    await Deno.writeFile(`${cwd}/in/a.jsonl.zst`, Buffer.concat(frames));
    await Deno.writeTextFile(`${cwd}/a.jsonl`, lines.join(""));
    const fields = ["--field", "q", "--field", "a", "--quiet"];
    const go = (input: string, out: string, ...args: string[]) =>
      quern(["tokenize", input, "--out", out, ...fields, ...args], { cwd });
    for (const [input, out] of [["a.jsonl", "d1"], ["in", "d2"], ["in/*.zst", "d3"]]) {
      const { code, stderr } = await go(input, out);
      assert.equal(code, 0, stderr);
    }
    const piped = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `--config=${root}deno.json`, `${root}cli/main.ts`]
        .concat(["tokenize", "-", "--out", "d4", "--format", "jsonl", ...fields]),
      cwd,
      stdin: "piped",
    }).spawn();
    const writer = piped.stdin.getWriter();
    await writer.write(new TextEncoder().encode(lines.join("")));
    await writer.close();
    assert.equal((await piped.status).code, 0);
    const index = await Deno.readTextFile(`${cwd}/d1/index.json`);
    for (const out of ["d2", "d3", "d4"]) {
      assert.equal(await Deno.readTextFile(`${cwd}/${out}/index.json`), index);
      assert.deepEqual(
        await Deno.readFile(`${cwd}/${out}/train-00000.bin`),
        await Deno.readFile(`${cwd}/d1/train-00000.bin`),
      );
    }
    assert.match(await textOf(`${cwd}/d1`, "train"), /^why\n\n\d/);

    const cut = Buffer.concat(frames).subarray(0, -3);
    await Deno.writeFile(`${cwd}/cut.jsonl.zst`, cut);
    const refused = await go("cut.jsonl.zst", "d5", "--on-error", "skip");
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: cut\.jsonl\.zst: .*ends inside a zstd frame/);
    assert.match((await go("*.csv", "d5")).stderr, /^error: \*\.csv: there are no text files here/);
    const twice = await go("-", "d5", "--tokenizer", "character");
    assert.match(twice.stderr, /^error: -: a character vocabulary needs a file/);
  });
});

Deno.test("quern tokenize: a parquet column becomes shards", async () => {
  await withTempDir(async (cwd) => {
    const data = Array.from({ length: 20 }, (_, i) => `story ${i}`);
    const file = parquetWriteBuffer({ columnData: [{ name: "story", data }], rowGroupSize: 6 });
    await Deno.writeFile(`${cwd}/a.parquet`, new Uint8Array(file));
    const go = (...args: string[]) =>
      quern(["tokenize", "a.parquet", "--out", "d", ...args], { cwd });
    const { code, stdout, stderr } = await go("--field", "story", "--json", "--val-fraction", "0");
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).train.documents, 20);
    assert.equal(await textOf(`${cwd}/d`, "train"), data.join(""));
    const refused = await go("--overwrite");
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /^error: a\.parquet: there is no column "text"\nhint: .*story/);
  });
});
