import assert from "node:assert/strict";
import { join } from "node:path";
import { quern, root, withTempDir } from "../support.ts";

/** What is offered for the last of some words, and whether the shell may offer files. */
async function complete(...words: string[]) {
  const { code, stdout, stderr } = await quern(["complete", "--", ...words]);
  assert.equal(code, 0, stderr);
  const lines = stdout.trimEnd().split("\n"), directive = lines.pop();
  const noFiles = 4;
  return {
    values: lines.map((line) => line.split("\t")[0]),
    files: directive === ":0" || (assert.equal(directive, `:${noFiles}`), false),
  };
}

Deno.test("quern completions: a script for each shell", async () => {
  for (const shell of ["bash", "zsh", "fish", "powershell"]) {
    const { code, stdout } = await quern(["completions", shell]);
    assert.equal(code, 0);
    assert.match(stdout, /quern complete --|quern.*complete/);
  }
  const slip = await quern(["completions", "bahs"]);
  assert.equal(slip.code, 2);
  assert.match(slip.stderr, /Allowed choices are bash, zsh, fish, powershell/);
  const { stdout } = await quern(["--help"]);
  assert.match(stdout, /^ {2}completions /m);
  assert.doesNotMatch(stdout, /^ {2}complete /m);
});

Deno.test("quern complete: commands, options and their values", async () => {
  assert.deepEqual(await complete("pre"), { values: ["pretrain"], files: false });
  const all = (await complete("")).values;
  assert.ok(all.includes("tokenize") && all.includes("doctor") && !all.includes("complete"));
  assert.deepEqual(await complete("pretrain", "--dev"), { values: ["--device"], files: false });
  assert.deepEqual(await complete("pretrain", "--device", "w"), {
    values: ["webgpu"],
    files: false,
  });
  assert.deepEqual(await complete("config", "sh"), { values: ["show"], files: false });
  assert.deepEqual(await complete("config", "show", "sha"), {
    values: ["shakespeare-char"],
    files: false,
  });
  assert.deepEqual(await complete("eval", "run", "--tasks", "hel"), {
    values: ["hellaswag"],
    files: false,
  });
  assert.deepEqual(await complete("completions", "f"), { values: ["fish"], files: false });
});

Deno.test("quern complete: where a path is wanted the shell offers files", async () => {
  assert.deepEqual(await complete("pretrain", "conf"), { values: [], files: true });
  assert.deepEqual(await complete("pretrain", "--out", ""), { values: [], files: true });
  assert.deepEqual(await complete("pretrain", "--nothing"), { values: [], files: false });
});

const bash = Deno.build.os !== "windows" &&
  (await new Deno.Command("sh", { args: ["-c", "command -v bash"], stdout: "null" }).output())
    .success;

Deno.test({
  name: "quern completions bash: bash completes by it, also when it is read twice",
  ignore: !bash,
  fn: async () => {
    await withTempDir(async (dir) => {
      const { stdout } = await quern(["completions", "bash"]);
      await Deno.writeTextFile(join(dir, "quern.bash"), stdout);
      // the one function of bash-completion that it uses, for a line without = and :
      const packaged = `_get_comp_words_by_ref() {
          words=("\${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=\${words[cword]}; prev=\${words[cword-1]}
        }`;
      const programOf = (packaged: string) => `
        ${packaged}
        compopt() { :; }
        quern() { "$DENO" run -A "$MAIN" "$@"; }
        source quern.bash && source quern.bash
        COMP_WORDS=(quern generate --dev); COMP_CWORD=2
        COMP_LINE="quern generate --dev"; COMP_POINT=20
        function=$(complete -p quern | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function"
        printf '%s\\n' "\${COMPREPLY[@]}"
        COMP_LINE="quern config show "; COMP_POINT=\${#COMP_LINE}
        COMP_WORDS=(quern config show ""); COMP_CWORD=3
        "$function"
        printf '%s\\n' "\${COMPREPLY[@]}"`;
      for (const words of [packaged, ""]) { // without the package, too
        const { code, stdout: out, stderr } = await new Deno.Command("bash", {
          args: ["--norc", "-c", programOf(words)],
          cwd: dir,
          env: { DENO: Deno.execPath(), MAIN: `${root}cli/main.ts` },
        }).output();
        const text = new TextDecoder();
        assert.equal(code, 0, text.decode(stderr));
        assert.equal(text.decode(stderr), "");
        assert.match(text.decode(out), /^--device\n(.*\n)*shakespeare-char\n/);
      }
    });
  },
});
