import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  barChart,
  charts,
  heatMap,
  markup,
  openRunReader,
  page,
  runReport,
} from "../../core/report/mod.ts";
import { serveReports } from "../../core/report/live.ts";
import { findChromium, type Tab, withChromium } from "../chromium.ts";
import { requireWholeCharts } from "../core/report/pages.ts";
import { writeLongRun, writeRun } from "../core/report/runs.ts";
import { withTempDir } from "../support.ts";

/** Needs a browser; ignored, and counted so, where none is installed. */
function browserTest(name: string, use: (tab: Tab, dir: string) => Promise<void>): void {
  const ignore = findChromium() === undefined;
  Deno.test({ name, ignore, fn: () => withTempDir((dir) => withChromium((tab) => use(tab, dir))) });
}

const phone = { width: 390, height: 844, mobile: true }, desk = { width: 1280, height: 900 };
const night = { ...phone, dark: true };

/** Whether every line chart has a canvas on which something is drawn, by title. */
const drawn =
  `Object.fromEntries([...document.querySelectorAll('[data-chart="lines"]')].map((figure) => {
  const canvas = figure.querySelector("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [figure.querySelector("h3").textContent, data.some((value) => value !== 0)];
}))`;

/** No page is broader than its window. */
const fits = "document.documentElement.scrollWidth <= innerWidth";

browserTest(
  "report: in Chromium every chart is drawn without a complaint, on a phone and in the dark",
  async (tab, dir) => {
    const evil =
      `</script><script>document.title = "evil"</script><img src=x onerror="document.title = 'evil'">`;
    await writeRun(join(dir, "short"), { steps: 3, text: evil, source: evil });
    await writeLongRun(join(dir, "long"));
    const read = (name: string) => openRunReader(join(dir, name))();
    const [short, long] = [await read("short"), await read("long")];
    const pages = { short: [short], long: [long], both: [short, long] };
    for (const [name, runs] of Object.entries(pages)) {
      const text = runReport(runs, { writtenAt: new Date() }), file = join(dir, `${name}.html`);
      const titles = requireWholeCharts(text);
      await Deno.writeTextFile(file, text);
      for (const view of name === "long" ? [night] : [desk, night]) {
        await tab.open(pathToFileURL(file).href, view);
        const expected = Object.fromEntries(titles.map((title) => [title, true]));
        assert.deepEqual(await tab.evaluate(drawn), expected, name);
        assert.ok(await tab.evaluate(fits), `${name} is too broad for ${view.width} pixels`);
        assert.deepEqual(tab.complaints, [], name);
      }
      assert.notEqual(await tab.evaluate("document.title"), "evil");
      assert.equal(await tab.evaluate("document.querySelectorAll('img[src=x]').length"), 0);
    }
    const scheme = "getComputedStyle(document.body).backgroundColor";
    assert.equal(await tab.evaluate(scheme), "rgb(20, 22, 26)"); // --page of the dark
  },
);

browserTest(
  "report: legends hide lines, the scale of powers is a switch, and the pointer shows values",
  async (tab, dir) => {
    await writeRun(join(dir, "run"), { steps: 3 });
    const file = join(dir, "run.html"), run = await openRunReader(join(dir, "run"))();
    await Deno.writeTextFile(file, runReport([run], { writtenAt: new Date() }));
    await tab.open(pathToFileURL(file).href, desk);
    const loss = `document.querySelector('figure[aria-label="Loss"]')`;
    const pressed = (what: string) =>
      tab.evaluate(`${loss}.querySelector("${what}").getAttribute("aria-pressed")`);
    const picture = () => tab.evaluate<string>(`${loss}.querySelector("canvas").toDataURL()`);
    const changes = async (what: string) => {
      const before = await picture();
      await tab.evaluate(
        `(${loss}.querySelector("${what}").click(), new Promise((done) => setTimeout(done, 50)))`,
      );
      assert.notEqual(await picture(), before, what);
    };
    assert.equal(await pressed("button.log"), "false");
    await changes("button.log");
    assert.equal(await pressed("button.log"), "true");
    await changes(".legend button");
    assert.equal(await pressed(".legend button"), "false");
    // over the last step: 4/3 nats a token at step 3
    await tab.evaluate(`(() => {
    const over = ${loss}.querySelector(".u-over"), box = over.getBoundingClientRect();
    const at = { clientX: box.right - 2, clientY: box.top + 20, bubbles: true };
    for (const kind of ["mouseenter", "mousemove"]) over.dispatchEvent(new MouseEvent(kind, at));
    return new Promise((done) => setTimeout(done, 50));
  })()`);
    assert.equal(await tab.evaluate(`${loss}.querySelector(".at").textContent`), "step 3");
    assert.equal(await tab.evaluate(`${loss}.querySelector("output").textContent`), "1.333");
    assert.deepEqual(tab.complaints, []);
  },
);

browserTest(
  "report: maps tell the cell under the pointer, as a quantity or as a kind",
  async (tab, dir) => {
    const map = { x: { label: "neuron" }, y: { label: "layer" }, rows: 2, columns: 2 };
    const file = join(dir, "maps.html"), values = [0, 1, NaN, 4];
    await Deno.writeTextFile(
      file,
      page({
        title: "maps",
        lead: markup``,
        sections: [{
          id: "maps",
          title: "Maps",
          content: charts([
            heatMap({
              ...map,
              title: "Quantity",
              values,
              scale: { label: "entropy", unit: "nats" },
            }),
            heatMap({
              ...map,
              title: "Kinds",
              values,
              scale: { label: "kind", kinds: ["relu", "silu"] },
            }),
            barChart({
              title: "Bars",
              names: { label: "task" },
              values: { label: "accuracy", unit: "part of all" },
              groups: ["base"],
              rows: [{ name: "a", bars: [{ value: 0.5 }] }],
            }),
          ]),
        }],
      }),
    );
    for (const view of [desk, phone]) {
      await tab.open(pathToFileURL(file).href, view);
      const at = (title: string, column: number, row: number) =>
        tab.evaluate(`(() => {
        const figure = document.querySelector('figure[aria-label="${title}"]');
        const image = figure.querySelector("img"), box = image.getBoundingClientRect();
        const at = { clientX: box.left + box.width * ${
          (column + 0.5) / 2
        }, clientY: box.top + box.height * ${(row + 0.5) / 2} };
        image.dispatchEvent(new PointerEvent("pointermove", at));
        return figure.querySelector("output").textContent;
      })()`);
      assert.equal(await at("Quantity", 1, 1), "layer 1, neuron 1: entropy (nats) 4");
      assert.equal(await at("Quantity", 0, 1), "layer 1, neuron 0: –");
      assert.equal(await at("Kinds", 1, 0), "layer 0, neuron 1: silu");
      assert.ok(await tab.evaluate(fits));
      assert.deepEqual(tab.complaints, []);
    }
  },
);

browserTest(
  "watch: the page follows a run from before its beginning, and keeps what its reader chose",
  async (tab, dir) => {
    const run = join(dir, "run");
    await using server = serveReports([run], { port: 0, poll_ms: 20 });
    await tab.open(server.url, desk);
    const until = async (condition: string) => {
      const found = await tab.evaluate(`new Promise((done) => {
      const end = performance.now() + 5000;
      const look = () => (${condition}) ? done(true) : performance.now() > end ? done(false) : setTimeout(look, 20);
      look();
    })`);
      assert.ok(found, condition);
    };
    await until(`document.querySelector(".live").textContent === "live"`);
    await writeRun(run, { steps: 3 });
    await until(
      `document.querySelectorAll("canvas").length > 8 && document.body.textContent.includes("done")`,
    );
    const log = `document.querySelector('figure[aria-label="Loss"] button.log')`;
    await tab.evaluate(
      `(${log}.click(), document.querySelector("#samples details").open = true, window.kept = true)`,
    );
    await writeRun(run, { steps: 4 });
    await until(
      `document.querySelector('figure[aria-label="Loss"] script.data').textContent.includes("[1,2,3,4]")`,
    );
    assert.equal(await tab.evaluate(`${log}.getAttribute("aria-pressed")`), "true");
    await until(`document.querySelector("#samples details").open`);
    assert.equal(await tab.evaluate("window.kept"), true, "the page itself was not loaded anew");
    assert.deepEqual(tab.complaints, []);
  },
);
