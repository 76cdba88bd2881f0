/**
 * Proves the layers: reads every import of core/, kernels/ and cli/ and holds it against the table.
 *
 * @module
 */
import assert from "node:assert/strict";
import { posix } from "node:path";
import { root } from "./support.ts";

/**
 * Folder → the folders it may import from, itself always among them. "core" stands for all of core.
 */
const mayImport: Record<string, readonly string[]> = {
  "core/graph": [],
  "kernels": ["core/graph"],
  "core/plan": ["core/graph", "kernels", "core/device"],
  "core/device": ["core/graph", "kernels", "core/plan"],
  "core/nn": ["core/graph", "kernels", "core/model", "core/optim"],
  "core/model": ["core/graph", "kernels", "core/nn", "core/optim"],
  "core/optim": ["core/graph", "kernels", "core/nn", "core/model"],
  "core/text": ["core/data", "core/io"],
  "core/data": ["core/text", "core/io"],
  "core/io": ["core/text", "core/data"],
  "core/hub": ["core/io"],
  "core/train": ["core", "kernels"],
  "core/sft": ["core", "kernels"],
  "core/eval": ["core", "kernels"],
  "core/generate": ["core", "kernels"],
  "core/import": ["core", "kernels"],
  "core/export": ["core", "kernels"],
  "core/open": ["core", "kernels"],
  "core/quant": ["core", "kernels"],
  "core/inspect": ["core", "kernels"],
  "core/report": ["core", "kernels"],
  "cli": ["core", "kernels", "configs", "deno.json"],
};

interface SourceFile {
  path: string; // from the repository's root, with forward slashes
  lines: string[];
}

async function readSources(folder: string): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  for await (const entry of Deno.readDir(root + folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) files.push(...await readSources(path));
    else if (/\.[jt]s$/.test(path)) {
      files.push({ path, lines: (await Deno.readTextFile(root + path)).split("\n") });
    }
  }
  return files;
}

/**
 * Every specifier that a file imports, statically, dynamically, as a type, or as a worker's URL.
 */
function importsOf({ lines }: SourceFile): { line: number; specifier: string }[] {
  const forms = [
    /^\s*(?:import|export)\b.*?\bfrom\s*"([^"]+)"/, // on one line
    /^\s*\}\s*from\s*"([^"]+)"/, // the end of one that spans lines
    /^\s*import\s*"([^"]+)"/,
    /\bimport\(\s*"([^"]+)"/,
    /\bnew URL\(\s*"(\.[^"]+)",\s*import\.meta\.url/,
  ];
  return codeLines(lines).flatMap(({ line, code }) =>
    forms.flatMap((form) => {
      const specifier = code.match(form)?.[1];
      return specifier === undefined ? [] : [{ line, specifier }];
    })
  );
}

/** The lines that are not comments, with the comment at their end cut off. */
function codeLines(lines: string[]): { line: number; code: string }[] {
  return lines
    .map((text, i) => ({ line: i + 1, code: text.replace(/(^|\s)\/\/.*$/, "") }))
    .filter(({ code }) => !/^\s*(\/?\*|$)/.test(code));
}

/** The folder of the table that a file belongs to. */
function layerOf(path: string): string {
  const [first, second] = path.split("/");
  return first === "core" ? `core/${second}` : first;
}

function isAllowed(from: string, to: string): boolean {
  if (from === to) return true;
  return (mayImport[from] ?? []).some((allowed) =>
    allowed === to || (allowed === "core" && to.startsWith("core/"))
  );
}

/** What is wrong with one file's imports, a line each. */
function layerFaults(file: SourceFile): string[] {
  const from = layerOf(file.path);
  const allowed = mayImport[from];
  if (allowed === undefined) return [`${file.path}:1: no layer is declared for ${from}`];
  return importsOf(file).flatMap(({ line, specifier }) => {
    const place = `${file.path}:${line}: "${specifier}"`;
    if (!specifier.startsWith(".")) return [];
    const target = posix.join(posix.dirname(file.path), specifier);
    if (target.startsWith("../")) return [`${place}: imports from outside the repository`];
    const to = layerOf(target);
    if (isAllowed(from, to)) return [];
    const rule = allowed.length === 0 ? "nothing outside itself" : `only ${allowed.join(", ")}`;
    return [`${place}: ${from} may import ${rule}, not ${to}`];
  });
}

async function sourcesOf(...folders: string[]): Promise<SourceFile[]> {
  const lists = await Promise.all(folders.map(async (folder) => {
    try {
      return await readSources(folder);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }));
  return lists.flat();
}

Deno.test("layers: every import follows the table of the design", async () => {
  const faults = (await sourcesOf("core", "kernels", "cli")).flatMap(layerFaults);
  assert.equal(faults.join("\n"), "");
});

Deno.test("layers: the check itself sees a wrong import, in each form", () => {
  const faults = layerFaults({
    path: "core/graph/sample.ts",
    lines: [
      'import { a } from "./near.ts"; // fine',
      'import { b } from "../io/errors.ts";',
      "import {",
      "  c,",
      '} from "../../kernels/matmul.ts";',
      'const d = await import("../../cli/main.ts");',
      '// import { e } from "../text/tokenizer.ts";',
    ],
  });
  assert.equal(faults.length, 3);
  assert.match(faults[0], /^core\/graph\/sample\.ts:2: .*nothing outside itself, not core\/io$/);
  assert.match(faults[1], /^core\/graph\/sample\.ts:5: /);
  assert.match(faults[2], /^core\/graph\/sample\.ts:6: .*not cli$/);
});

Deno.test("layers: core and kernels never print and never exit", async () => {
  const forbidden =
    /\bconsole\.\w+|\bDeno\.(exit|stdout|stderr)\b|\bprocess\.(exit|stdout|stderr)\b/;
  const faults = (await sourcesOf("core", "kernels")).flatMap(({ path, lines }) =>
    codeLines(lines).flatMap(({ line, code }) => {
      const found = code.match(forbidden)?.[0];
      return found === undefined ? [] : [`${path}:${line}: ${found}: only cli/ prints and exits`];
    })
  );
  assert.equal(faults.join("\n"), "");
});

Deno.test("layers: packages come through the import map, from npm alone", async () => {
  const known = Object.keys(JSON.parse(await Deno.readTextFile(`${root}deno.json`)).imports);
  const isKnown = (specifier: string) =>
    /^(\.\.?\/|node:)/.test(specifier) ||
    known.some((name) => specifier === name || (name.endsWith("/") && specifier.startsWith(name)));
  const faults = (await sourcesOf("core", "kernels", "cli", "tests")).flatMap((file) =>
    importsOf(file)
      .filter(({ specifier }) => !isKnown(specifier))
      .map(({ line, specifier }) =>
        `${file.path}:${line}: "${specifier}" is not in deno.json's imports`
      )
  );
  assert.equal(faults.join("\n"), "");
});

Deno.test("layers: every package of the import map is pinned and used", async () => {
  const map: Record<string, string> =
    JSON.parse(await Deno.readTextFile(`${root}deno.json`)).imports;
  const used = new Set(
    (await sourcesOf("core", "kernels", "cli", "tests")).flatMap(importsOf).map((i) => i.specifier),
  );
  for (const [name, target] of Object.entries(map)) {
    assert.match(target, /^npm:(@[\w.-]+\/)?[\w-]+@\d+\.\d+\.\d+(\/.*)?$/, `${name} is not pinned`);
    assert.ok(used.has(name), `${name} is imported nowhere`);
  }
});
