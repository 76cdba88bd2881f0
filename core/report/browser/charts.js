/* global uPlot -- the page carries it before this script */
/** Draws the page's charts from the data that stand in their figures. */
globalThis.quernCharts = (() => {
  const drawn = new Map(); // figure → { plot, state }
  const property = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function shortNumber(value) {
    if (value === undefined || value === null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size >= 1e15 || (size > 0 && size < 1e-3)) return value.toExponential(2).replace("e+", "e");
    if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
    return String(Number(value.toPrecision(4)));
  }

  /** A tick, with k, M, G, T for what is large. */
  function tickText(value) {
    if (value === null) return "";
    const size = Math.abs(value);
    if (size > 0 && size < 1e-3) return value.toExponential().replace("e+", "e");
    const power = size < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(size) / 3 + 1e-9));
    return Number((value / 1000 ** power).toPrecision(6)) + ["", "k", "M", "G", "T"][power];
  }

  function readData(figure) {
    return JSON.parse(figure.querySelector("script.data").textContent);
  }

  /** What the reader chose in a figure, so that a newer one in its place can have it, too. */
  function stateOf(figure) {
    const kept = drawn.get(figure);
    if (!kept) return undefined;
    const { plot, state, ends } = kept, { min, max } = plot.scales.x;
    const isZoomed = min > ends[0] || max < ends[1], { left, top } = plot.cursor;
    return {
      ...state,
      zoom: isZoomed ? [min, max] : undefined,
      pointer: left >= 0 ? { left, top } : undefined,
    };
  }

  function drawLines(figure, before) {
    const { x, lines, marks } = readData(figure);
    const target = figure.querySelector(".plot"), log = figure.querySelector("button.log");
    const buttons = [...figure.querySelectorAll(".legend button")];
    const outputs = buttons.map((button) => button.querySelector("output"));
    const lasts = outputs.map((output) => output.textContent), at = figure.querySelector(".at");
    const state = before ?? { log: log.getAttribute("aria-pressed") === "true", hidden: [] };
    const shown = lines.map(({ name }) => !state.hidden.includes(name));
    log.setAttribute("aria-pressed", String(state.log));
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(shown[i])));
    const points = lines.reduce((sum, line) => sum + line.x.length, 0);
    if (points === 0) return void (target.textContent = "No points yet.");
    // a scale of powers has no place for zero and below
    const values = lines.map((line) =>
      line.y.map((value) => value !== null && (!state.log || value > 0) ? value : null)
    );
    const data = uPlot.join(lines.map((line, i) => [line.x, values[i]]));
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const [stroke, grid] = [property("--quiet"), property("--grid")];
    const axis = { stroke, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const values4 = (_, ticks) => ticks.map(tickText);
    const valueAt = (plot, series, i) => {
      const column = plot.data[series];
      for (; i >= 0; i--) if (column[i] !== null && column[i] !== undefined) return column[i];
      return undefined;
    };
    const follow = (plot) => {
      const { idx } = plot.cursor, isAway = idx === null || idx === undefined;
      at.textContent = isAway ? "" : `${x.label} ${shortNumber(plot.data[0][idx])}`;
      outputs.forEach((output, i) => {
        output.textContent = isAway ? lasts[i] : shortNumber(valueAt(plot, i + 1, idx));
      });
    };
    const drawMarks = ({ ctx, bbox, ...plot }) => {
      ctx.save();
      ctx.strokeStyle = stroke;
      ctx.setLineDash([4, 4]);
      for (const mark of marks) {
        const left = plot.valToPos(mark.x, "x", true);
        if (left < bbox.left || left > bbox.left + bbox.width) continue;
        ctx.beginPath();
        ctx.moveTo(left, bbox.top);
        ctx.lineTo(left, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    };
    target.textContent = "";
    const plot = new uPlot(
      {
        width: target.clientWidth || 320,
        height: target.clientHeight || 240,
        padding: [12, 12, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          sync: { key: x.label },
          drag: { x: true, y: false },
          points: { size: 7 },
        },
        scales: { x: { time: false }, y: state.log ? { distr: 3 } : { range: rangeOf } },
        axes: [
          { ...axis, values: values4, space: 64, size: 26 },
          { ...axis, values: values4, size: sizeOf },
        ],
        series: [
          {},
          ...lines.map(({ style, x: xs }, i) => ({
            label: lines[i].name,
            show: shown[i],
            stroke: getComputedStyle(buttons[i].querySelector(".swatch")).color,
            width: style === "faint" ? 1 : 2,
            alpha: style === "faint" ? 0.35 : 1,
            dash: style === "dashed" ? [6, 4] : undefined,
            spanGaps: true,
            points: { show: xs.length <= 40, size: 5 },
          })),
        ],
        hooks: { setCursor: [follow], draw: [drawMarks] },
      },
      data,
      target,
    );
    const { min, max } = plot.scales.x;
    const ends = data[0].length > 0 ? [data[0][0], data[0].at(-1)] : [min, max];
    if (state.zoom) plot.setScale("x", { min: state.zoom[0], max: state.zoom[1] });
    const sized = new ResizeObserver(() =>
      plot.setSize({ width: target.clientWidth, height: target.clientHeight })
    );
    sized.observe(target);
    drawn.set(figure, { plot, state, ends, sized });
    if (state.pointer) plot.setCursor(state.pointer, false);
    log.onclick = () => redraw(figure, { ...stateOf(figure), log: !state.log });
    buttons.forEach((button, i) => {
      button.onclick = () => {
        shown[i] = !shown[i];
        state.hidden = lines.filter((_, j) => !shown[j]).map(({ name }) => name);
        button.setAttribute("aria-pressed", String(shown[i]));
        plot.setSeries(i + 1, { show: shown[i] });
      };
    });
  }

  /** Of a line that is zero throughout, too. */
  function rangeOf(_, least, most) {
    if (least === null || (least === 0 && most === 0)) return [0, 1];
    return uPlot.rangeNum(least, most, 0.1, true);
  }

  /** Room for the longest tick. */
  function sizeOf(plot, ticks, axis, cycle) {
    if (cycle > 1) return plot.axes[axis]._size;
    const longest = Math.max(0, ...(ticks ?? []).map((text) => text.length));
    return 14 + 7 * Math.max(3, longest);
  }

  function drop(figure) {
    const kept = drawn.get(figure);
    kept?.sized.disconnect();
    kept?.plot.destroy();
    drawn.delete(figure);
  }

  function redraw(figure, state) {
    drop(figure);
    drawLines(figure, state);
  }

  /** Values at the pointer, read back from the picture's colours. */
  function followHeat(figure) {
    const image = figure.querySelector("img.map"), at = figure.querySelector("output");
    const data = readData(figure), { width, height } = image;
    const [columns, rows] = ["width", "height"].map((name) => Number(image.getAttribute(name)));
    let pixels;
    const known = new Map(data.palette.map((rgb, i) => [rgb.join(), i]));
    const read = () => {
      const canvas = Object.assign(document.createElement("canvas"), {
        width: columns,
        height: rows,
      });
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, columns, rows).data;
    };
    const textAt = (place) => {
      const none = data.palette.length - 1;
      if (place === undefined || place === none) return "–";
      if (data.kinds) return data.kinds[place];
      const [least, most] = data.ends;
      return `${data.label} ${shortNumber(least + (most - least) * place / (none - 1))}`;
    };
    image.onpointermove = (event) => {
      if (!image.complete || width === 0 || height === 0) return;
      pixels ??= read();
      const box = image.getBoundingClientRect();
      const place = (part, count) => Math.max(0, Math.min(count - 1, Math.floor(part * count)));
      const column = place((event.clientX - box.left) / box.width, columns);
      const row = place((event.clientY - box.top) / box.height, rows);
      const rgb = pixels.slice(4 * (row * columns + column), 4 * (row * columns + column) + 3);
      at.textContent = `${data.y} ${data.rowNames?.[row] ?? row}, ${data.x} ${
        data.columnNames?.[column] ?? column
      }: ${textAt(known.get(rgb.join()))}`;
    };
    image.onpointerleave = () => (at.textContent = "");
  }

  /** Draws all figures below an element; `states`, by title, are what the reader chose before. */
  function mount(below, states = {}) {
    for (const figure of below.querySelectorAll("figure[data-chart]")) {
      const { chart } = figure.dataset;
      if (chart === "lines") drawLines(figure, states[figure.getAttribute("aria-label")]);
      if (chart === "heat") followHeat(figure);
    }
  }

  /** Forgets them, and returns what the reader chose. */
  function unmount(below) {
    const states = {};
    for (const figure of below.querySelectorAll('figure[data-chart="lines"]')) {
      states[figure.getAttribute("aria-label")] = stateOf(figure);
      drop(figure);
    }
    return states;
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of [...drawn.keys()]) redraw(figure, stateOf(figure));
  });
  mount(document);
  return { mount, unmount };
})();
