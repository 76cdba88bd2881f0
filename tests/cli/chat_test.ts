// deno-lint-ignore-file no-control-regex -- terminals speak in them
/**
 * `quern chat` as it is used: in pipes, and by somebody who types.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { commandIn, completeCommand } from "../../cli/chat_commands.ts";
import { addToHistory, readHistory } from "../../cli/ui/history.ts";
import { messageLines } from "../../cli/ui/message_lines.ts";
import { pasteFilter } from "../../cli/ui/paste.ts";
import { root, withTempDir } from "../support.ts";
import { makeChatRun } from "./chat_run.ts";
import { hasScript, typeOnTerminal, type Typist } from "./terminal.ts";
import { cpuOptions } from "./tiny_project.ts";

Deno.test("chat: lines become messages; a backslash and fences join them, pasted line feeds stay", () => {
  const messagesOf = (lines: readonly string[]) => {
    const collector = messageLines();
    const found = lines.flatMap((line) => collector.push(line) ?? []);
    return [...found, collector.end() ?? "(end)"];
  };
  assert.deepEqual(messagesOf(["a", "b"]), ["a", "b", "(end)"]);
  assert.deepEqual(messagesOf(["a \\", "b\\", "", "c"]), ["a \nb\n", "c", "(end)"]);
  assert.deepEqual(messagesOf(["C:\\\\", "a\\\\\\", "b"]), ["C:\\", "a\\\nb", "(end)"]);
  assert.deepEqual(messagesOf(['"""', "a\\", "", " b", '"""', "c"]), ["a\\\n\n b", "c", "(end)"]);
  assert.deepEqual(messagesOf(['"""one"""', ' """a', 'b""" ']), ["one", "a\nb", "(end)"]);
  assert.deepEqual(messagesOf(["one\ntwo\\\nthree"]), ["one\ntwo\\\nthree", "(end)"]);
  assert.deepEqual(messagesOf(["a\\"]), ["a"]);
  assert.deepEqual(messagesOf(['"""', "never closed"]), ["never closed"]);
  const line = fc.string({ unit: fc.constantFrom("a", "\\", " ", "é") });
  fc.assert(fc.property(fc.array(line, { minLength: 1 }), (lines) => {
    const typed = lines.map((line) => line.replaceAll(/\\+$/g, "$&$&")).join("\\\n").split("\n");
    assert.deepEqual(messagesOf(typed), [lines.join("\n"), "(end)"]);
  }));
});

Deno.test("chat: what is pasted types itself and nothing else, wherever its bytes are cut", () => {
  const keysOf = (pieces: readonly Uint8Array[]) => {
    const filter = pasteFilter();
    let keys = "";
    for (const piece of pieces) {
      filter(piece, "buffer", (_, data) => void (keys += data ?? ""));
    }
    return keys;
  };
  const sent = "é\x1b[A\x1b[200~a\r\nb\tc\r\x1b[31m日\x03\x1b[201~d\r\x1b\r";
  const wanted = "é\x1b[Aa\x1b\rb\x1b\tc\x1b\r[31m日d\r\x1b\r";
  const bytes = new TextEncoder().encode(sent);
  assert.equal(keysOf([bytes]), wanted);
  // a terminal sends a mark at once; an escape that comes alone is a key
  const alone = new TextEncoder().encode("é\x1b[A\x1b").length;
  const cut = fc.nat({ max: bytes.length }).filter((cut) => cut !== alone);
  fc.assert(fc.property(fc.array(cut), (cuts) => {
    const edges = [0, ...cuts.sort((a, b) => a - b), bytes.length];
    assert.equal(keysOf(edges.slice(1).map((end, i) => bytes.subarray(edges[i], end))), wanted);
  }));
  assert.equal(keysOf([bytes.subarray(0, 3)]), "é\x1b"); // a key by itself is not held back
});

Deno.test("chat: commands are told from messages, and completed", () => {
  assert.deepEqual(commandIn("/set top_k 5"), { name: "set", argument: "top_k 5" });
  assert.deepEqual(commandIn("/QUIT "), { name: "quit", argument: "" });
  for (const message of ["/etc/passwd is a file", "// a comment", "a /clear", "/ 3", "/3 of 4"]) {
    assert.equal(commandIn(message), undefined);
  }
  assert.deepEqual(completeCommand("/un"), ["/undo"]);
  assert.deepEqual(completeCommand("/set top-"), ["/set top-k ", "/set top-p "]);
  assert.deepEqual(completeCommand("un"), []);
});

Deno.test("chat: the history is its owner's, survives damage, and does not grow for ever", () =>
  withTempDir(async (dir) => {
    const file = join(dir, "state", "quern", "chat_history");
    assert.deepEqual(await readHistory(file), []);
    await addToHistory(file, "one");
    await addToHistory(file, "two\nlines");
    await Deno.writeTextFile(file, '"cut o', { append: true });
    assert.deepEqual(await readHistory(file), ["two\nlines", "one"]);
    const many = Array.from({ length: 2500 }, (_, i) => `${JSON.stringify(`${i}`)}\n`).join("");
    await Deno.writeTextFile(file, `\n${many}`, { append: true });
    assert.equal((await readHistory(file)).length, 1000);
    const kept = await Deno.readTextFile(file);
    assert.ok(kept.startsWith('"1500"\n') && kept.endsWith('"2499"\n'));
    if (Deno.build.os === "windows") return;
    assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
  }));

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `quern chat` with lines on its stdin. */
async function chat(dir: string, lines: readonly string[], ...args: string[]): Promise<Result> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `--config=${root}deno.json`, `${root}cli/main.ts`, "chat", ...args],
    cwd: dir,
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  // a chat that ends before its lines do has not read them all
  await writer.write(new TextEncoder().encode(lines.join("\n") + "\n")).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

const linesOf = (stdout: string) =>
  stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);

const few = ["--max-tokens", "8", ...cpuOptions];

Deno.test("chat in a pipe: a line is a message, answers on stdout, the rest on stderr; chats can be saved and gone on with", () =>
  withTempDir(async (dir) => {
    await makeChatRun(dir, "run", { context: 400, isTuned: true });
    const lines = ["/system Be brief.", "Hello", "What is 3 \\", "+ 4?", "/save a/b.jsonl"];
    const plain = await chat(dir, lines, "run", ...few, "--seed", "7");
    assert.equal(plain.code, 0, plain.stderr);
    assert.match(
      plain.stderr,
      /^seed 7\nsystem: Be brief\.\nread (\d+) tokens in .* tokens\/s, then \d at .* tokens\/s\n/,
    );
    assert.match(plain.stderr, /^read \d+ of \d+ tokens in .* tokens\/s, then \d at /m);
    assert.match(plain.stderr, /^5 messages saved: a\/b\.jsonl:1$/m);

    assert.doesNotMatch(plain.stdout + plain.stderr, /\x1b|\r/);
    const [saved] = linesOf(await Deno.readTextFile(join(dir, "a/b.jsonl")));
    const messages = saved.messages as { role: string; content: string }[];
    assert.deepEqual(
      messages.map(({ role }) => role).join(),
      "system,user,assistant,user,assistant",
    );
    assert.equal(messages[3].content, "What is 3 \n+ 4?");
    assert.equal(plain.stdout, `${messages[2].content}\n${messages[4].content}\n`);

    // the same as objects, quietly; the system's message by its option; what was saved goes on
    const more = [
      "Hello",
      "What is 3 \\",
      "+ 4?",
      "/clear",
      "/load a/b.jsonl:1",
      "/undo",
      "/set seed 8",
    ];
    const again = [
      "What is 3 \\",
      "+ 4?",
      "/set seed 8",
      "/regenerate",
      "/save a/b.jsonl",
      "/quit",
      "x",
    ];
    const json = await chat(
      dir,
      [...more, ...again],
      ...["run", ...few, "--seed", "7", "--json", "--quiet", "--system", "Be brief."],
    );
    assert.equal(json.code, 0, json.stderr);
    const answers = linesOf(json.stdout);
    assert.deepEqual(
      answers.map(({ content }) => content),
      [2, 4, 4, 4].map((i) => messages[i].content),
    );
    assert.deepEqual(answers.map(({ seed }) => seed), [7, 8, 8, 8]);
    assert.equal(answers[0].read_tokens, answers[0].prompt_tokens);
    assert.ok(Number(answers[1].read_tokens) < Number(answers[1].prompt_tokens));
    assert.match(json.stderr, /^1 turn forgotten|2 turns forgotten/);
    assert.match(json.stderr, /^2 turns loaded\ntaken back: What is 3 …\nseed 8$/m);
    assert.doesNotMatch(json.stderr, /read|tokens/);
    assert.equal(linesOf(await Deno.readTextFile(join(dir, "a/b.jsonl"))).length, 2);

    // the data sets' other shapes are read, too; what has no answer yet gets one
    const sharegpt = {
      conversations: [{ from: "system", value: "Be brief." }, { from: "human", value: "Hello" }],
    };
    await Deno.writeTextFile(join(dir, "other.jsonl"), `${JSON.stringify(sharegpt)}\n`);
    const loaded = await chat(
      dir,
      ["/load other.jsonl", "/regenerate"],
      "run",
      ...few,
      "--seed",
      "7",
    );
    assert.equal(loaded.stdout, `${messages[2].content}\n`);
    assert.match(loaded.stderr, /^1 turn loaded; the last has no answer: \/regenerate gives one$/m);
  }));

Deno.test("chat: what cannot be done is said with its line and what to do", () =>
  withTempDir(async (dir) => {
    await makeChatRun(dir, "run", { context: 100, isTuned: true });
    await makeChatRun(dir, "base", { context: 100, isTuned: false });
    const options = ["--quiet", "--seed", "7", ...few];
    const [base, forced, unknown, swallowed] = await Promise.all([
      chat(dir, ["Hi"], "base", ...options),
      chat(dir, ["Hi"], "base", "--template", "chatml", ...options),
      chat(dir, ["Hi", "", "/regenrate"], "run", ...options),
      // llama.cpp 4713: the flag after the stop text's flag was swallowed
      chat(dir, ["Hi"], "run", "--stop", "--json"),
    ]);
    assert.equal(base.code, 1);
    assert.match(
      base.stderr,
      /^error: base: it has no chat template: .*\nhint: quern sft .*--template chatml/,
    );
    assert.equal(forced.code, 1);
    assert.match(
      forced.stderr,
      /^error: base: it has no token <\|im_start\|>, which .* chatml needs\nhint: quern sft/,
    );
    assert.equal(unknown.code, 2);
    assert.equal(unknown.stdout.split("\n").length, 2); // what came before is answered
    assert.match(
      unknown.stderr,
      /^error: stdin:3: there is no command \/regenrate \(did you mean "\/regenerate"\?\)$/m,
    );
    assert.equal(swallowed.code, 2);
    assert.match(
      swallowed.stderr,
      /option '--stop' has no value: --json follows\nhint: .* --stop=--json$/m,
    );
  }));

// nanochat 581, swarmllm 31: crashes and babble at a full context.
Deno.test("replay: nanochat 581: a chat that fills the context is told, and stops or slides", () =>
  withTempDir(async (dir) => {
    await makeChatRun(dir, "run", { context: 100, isTuned: true });
    const lines = Array.from({ length: 8 }, (_, i) => `turn ${i + 1}`);
    const [stopped, slid, long] = await Promise.all([
      chat(dir, lines, "run", ...few),
      chat(dir, lines, "run", "--context", "slide", "--json", ...few),
      chat(dir, ["x".repeat(90)], "run", "--context", "slide", ...few),
    ]);
    assert.equal(stopped.code, 1);
    assert.match(
      stopped.stderr,
      /^error: stdin:\d: the conversation comes to \d+ tokens, but the model's context ends at 100\nhint: .*\/clear/m,
    );
    assert.equal(slid.code, 0, slid.stderr);
    assert.match(
      slid.stderr,
      /^note: the model's context of 100 tokens is full: the oldest (turn is|2 turns are) no longer read$/m,
    );
    const answers = linesOf(slid.stdout);
    assert.equal(answers.length, 8);
    assert.ok(answers.every(({ reason }) => reason !== "context"));
    assert.ok(Number(answers.at(-1)!.forgotten_turns) >= 4);
    assert.equal(long.code, 1);
    assert.match(
      long.stderr,
      /^error: stdin:1: the message comes to \d+ tokens.*\nhint: shorten it/m,
    );
  }));

// llama.cpp 8593, 7381; llama-cpp-python 1809: the printed seed did not reproduce; "random" was constant.
Deno.test("replay: llama.cpp 8593: a chat's printed seed gives it again, and unseeded ones differ", () =>
  withTempDir(async (dir) => {
    await makeChatRun(dir, "run", { context: 200, isTuned: true });
    const hot = ["run", "--temperature", "5", "--max-tokens", "20", ...cpuOptions];
    const [first, second] = await Promise.all([
      chat(dir, ["Hi", "And"], ...hot),
      chat(dir, ["Hi", "And"], ...hot),
    ]);
    assert.notEqual(first.stdout, second.stdout);
    const seed = first.stderr.match(/^seed (\d+)$/m)![1];
    const [again, greedy] = await Promise.all([
      chat(dir, ["Hi", "And"], ...hot, "--seed", seed),
      chat(dir, ["Hi", "And"], "run", "--temperature", "0", ...few),
    ]);
    assert.equal(again.stdout, first.stdout);
    assert.doesNotMatch(greedy.stderr, /seed/); // nothing is drawn
  }));

Deno.test("chat in a pipe: Ctrl-C ends with code 130; what was said is there", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeChatRun(dir, "run", { context: 30_000, isTuned: true });
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `--config=${root}deno.json`, `${root}cli/main.ts`, "chat", "run"]
        .concat("--temperature", "0", "--max-tokens", "30000", ...cpuOptions),
      cwd: dir,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("Hi\nAnd\n")); // and stays open
    const stderr = new Response(child.stderr).text();
    let told = "";
    for await (const piece of child.stdout) {
      if (told === "") child.kill("SIGINT");
      told += new TextDecoder().decode(piece);
    }
    assert.equal((await child.status).code, 130);
    await writer.close().catch(() => {});
    assert.ok(told.length < 20_000 && told.endsWith("\n"));
    assert.match(await stderr, /stopped; what was said is kept\nnote: interrupted\n$/);
  }));

/** Somebody at a terminal who chats with a run of a long context. */
async function typing(
  args: string,
  { columns = 80, env = {} }: { columns?: number; env?: Record<string, string> },
  use: (typist: Typist, dir: string) => Promise<void>,
): Promise<void> {
  await withTempDir(async (cwd) => {
    await makeChatRun(cwd, "run", { context: 30_000, isTuned: true });
    // else the shell ends by the Ctrl-C that was typed, too
    const line = `trap : INT; quern chat run ${args} ${
      cpuOptions.join(" ")
    }; echo "code $?"; stty -a`;
    const state = { XDG_STATE_HOME: join(cwd, "state") };
    await typeOnTerminal(
      line,
      { cwd, columns, env: { ...state, ...env } },
      (typist) => use(typist, cwd),
    );
  });
}

Deno.test({
  name:
    "chat on a terminal: lines are edited, brought back, completed, pasted and continued; Ctrl-C stops an answer",
  ignore: !hasScript,
  fn: () =>
    typing("--max-tokens 8 --seed 1", {}, async ({ see, type, end }, dir) => {
      const prompt = /> \x1b\[22m\x1b\[3G/;
      const answered = /tokens\/s\x1b\[22m\r\n/;
      assert.match(await see(prompt), /^run: chatml, a context of 30,000 tokens\. .*\nseed 1\n/);
      await type("Helo\x1b[Dl\r"); // one to the left
      assert.match(await see(answered), /Hello/);
      await see(prompt);
      await type("/und\t");
      await see(/\/undo/);
      await type("\r");
      await see(/taken back: Hello\r\n/);
      await see(prompt);
      await type("\x1b[A\x1b[A"); // two entries back
      await see(/Hello\x1b\[8G/);
      await type("\r");
      await see(answered);
      await see(prompt);
      await type("\x1b[200~one\rtwo\tthree\x1b[201~");
      await see(/three/);
      await type("\r");
      await see(answered);
      await see(prompt);
      await type('"""\rfour\rfive"""\rsix\\\rseven\x1b\reight\r'); // all at once
      await see(answered);
      await see(answered);
      await see(prompt);
      await type("nonsense\x03");
      await see(prompt);
      await type("/set max-tokens 30000\r/set temperature 0\r");
      await see(/temperature 0\r\n/);
      await see(prompt);
      await type("long\r");
      await see(/\x1b\[\?2004l.{20}/s);
      await type("\x03");
      await see(/stopped; what was said is kept/);
      await see(prompt);
      await type("/save chat.jsonl\r");
      await see(/messages saved: chat\.jsonl:1/);
      await see(prompt);
      await type("\x04");
      const left = await end();
      assert.match(left, /code 0\n/);
      assert.match(left, /[^-]icanon/); // the terminal is as it was
      const [{ messages }] = linesOf(await Deno.readTextFile(join(dir, "chat.jsonl")));
      const said = messages as { role: string; content: string }[];
      assert.deepEqual(
        said.filter(({ role }) => role === "user").map(({ content }) => content),
        ["Hello", "one\ntwo\tthree", "four\nfive", "six\nseven\neight", "long"],
      );
      const history = await readHistory(join(dir, "state", "quern", "chat_history"));
      assert.equal(history[0], "/save chat.jsonl");
      assert.ok(history.includes("six\nseven\neight") && !history.includes("nonsense"));
    }),
});

Deno.test({
  name: "chat on a terminal: narrow, without colour or history; Ctrl-C leaves from an empty line",
  ignore: !hasScript,
  fn: () =>
    typing(
      "--temperature 0 --max-tokens 1 --no-history",
      { columns: 24, env: { NO_COLOR: "1" } },
      async (typist, dir) => {
        const { see, type, end } = typist;
        let shown = await see(/> /);
        await type("a message that is longer than a line\r");
        shown += await see(/stopped[^>]*> /);
        await type("/help\r");
        shown += await see(/Ctrl-C[^>]*> /);
        await type("\x03");
        const left = await end();
        assert.match(left, /code 0\n/);

        assert.doesNotMatch(shown, /\x1b\[[\d;]*m/);
        const notes = shown.split("\n").filter((line) => /^(run|read|stopped|\/)/.test(line));
        assert.ok(notes.length > 8);
        for (const line of notes) assert.ok(line.length <= 24 || !line.trim().includes(" "), line);
        await assert.rejects(Deno.stat(join(dir, "state")));
      },
    ),
});

Deno.test({
  name:
    "chat on a terminal without an editor: lines are answered, and what is wrong is said with what to do",
  ignore: !hasScript,
  fn: () =>
    typing("--max-tokens 8 --seed 1", { env: { TERM: "dumb" } }, async (typist, dir) => {
      const { see, type, end } = typist;
      await Deno.writeTextFile(join(dir, "one.jsonl"), '{"prompt": "a", "completion": "b"}\n');
      await see(/seed 1\r\n> /);
      await type("Hello\n");
      await see(/tokens\/s\r\n[^>]*> /);
      for (
        const [line, error] of [
          ["é", /error: the character "é" .* is not among/],
          [
            "/regenrate",
            /error: there is no command \/regenrate \(did you mean "\/regenerate"\?\)/,
          ],
          ["/set temprature 1", /there is no setting temprature \(did you mean "temperature"\?\)/],
          ["/set temperature -1", /temperature cannot be -1: not at least 0/],
          ["/set context wide", /context cannot be wide: allowed choices are stop, slide/],
          ["/load", /a file is missing\r\nhint: for example \/load chats\.jsonl/],
          ["/load none.jsonl", /error: none\.jsonl: there is no such file/],
          ["/load one.jsonl:3", /error: one\.jsonl: there is no conversation 3/],
          ["/load one.jsonl", /1 turn loaded/],
          ["/set penalty presence=1,counted=all", /penalty presence=1,counted=all/],
          ["/set penalty none", /penalty none/],
          ['/set stop "a b"', /stop "a b"/],
          ["/set stop none", /stop none/],
        ] as const
      ) {
        await type(`${line}\n`);
        await see(error);
        await see(/> /);
      }
      await type("/quit\n");
      const left = await end();
      assert.match(left, /code 0\n/);
      assert.doesNotMatch(left.split("code 0")[0], /\x1b/);
    }),
});
