/** Maps of numbers by row and column, in colours. */

import { type Axis, axisText, figure, legend, shortNumber } from "./figure.ts";
import { embedJson, type Markup, markup } from "./html.ts";
import { encodePng, type Rgb } from "./png.ts";
import { table } from "./table.ts";

export interface HeatMap {
  readonly title: string;
  readonly note?: string | undefined;
  /** What columns and rows are: "neuron", "layer". */
  readonly x: Axis;
  readonly y: Axis;
  readonly rows: number;
  readonly columns: number;
  /** [rows, columns]; NaN is a cell without a value. */
  readonly values: ArrayLike<number>;
  /** Left out: they are numbered from 0. */
  readonly rowNames?: readonly string[];
  readonly columnNames?: readonly string[];
  /** What the values are: a quantity, whose colours go from `least` to `most` (left out: of the values), or one of several kinds. */
  readonly scale: QuantityScale | KindScale;
}

export interface QuantityScale extends Axis {
  readonly least?: number;
  readonly most?: number;
  /** `two-sided`: white in the middle of both ends. */
  readonly colours?: "one-sided" | "two-sided";
}

/** Values are places in `kinds`. */
export interface KindScale extends Axis {
  readonly kinds: readonly string[];
}

/** A map as a picture of one pixel a cell, so that a hundred thousand cells weigh little; values show at the pointer. */
export function heatMap(map: HeatMap): Markup {
  const { title, note, x, y, rows, columns, scale } = map;
  const { pixels, palette, legend: painted, ends } = "kinds" in scale
    ? ofKinds(map, scale)
    : ofQuantity(map, scale);
  const png = encodePng({ width: columns, height: rows, pixels, palette }).toBase64();
  const names = (list: readonly string[] | undefined, count: number) =>
    list ?? Array.from({ length: count }, (_, i) => String(i));
  const rowNames = names(map.rowNames, rows), columnNames = names(map.columnNames, columns);
  const places = (list: readonly string[], most: number, side: string) =>
    sparse(list, most).map(([i, name]) => {
      const part = (100 * (i + 0.5) / list.length).toFixed(2);
      return markup`<span style="${side}: ${part}%">${name}</span>`;
    });
  const described = `${title}: ${axisText(scale)} by ${y.label} and ${x.label}`;
  const height = Math.max(6, Math.min(32, 1.4 * rows)).toFixed(1);
  const data = {
    ...{ x: x.label, y: y.label, palette, ends },
    ...("kinds" in scale ? { kinds: scale.kinds } : { label: axisText(scale) }),
    ...(map.rowNames && { rowNames }),
    ...(map.columnNames && { columnNames }),
  };
  return figure({
    kind: "heat",
    title,
    note,
    x,
    y,
    wide: true,
    legend: painted,
    picture: markup`<div class="heat"><div class="rows" style="min-width: ${
      Math.min(20, Math.max(...rowNames.map(({ length }) => length)))
    }ch">${places(rowNames, 32, "top")}</div>
<img class="map${
      columns > 1200 && " fine"
    }" width="${columns}" height="${rows}" alt="${described}; the numbers stand below" style="height: ${height}rem" src="data:image/png;base64,${png}">
<div class="ticks">${places(columnNames, 10, "left")}</div></div>${embedJson("data", data)}`,
    below: markup`<output></output>`,
    numbers: "kinds" in scale ? kindsByRow(map, scale, rowNames) : meansByRow(map, rowNames),
  });
}

/** Some of the names, evenly, with their places; those of numbered ones are round. */
function sparse(names: readonly string[], most: number): (readonly [number, string])[] {
  const rough = Math.ceil(names.length / most), power = 10 ** Math.floor(Math.log10(rough));
  const every = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough)!;
  return names.map((name, i) => [i, name] as const).filter(([i]) => i % every === 0);
}

interface Painted {
  readonly pixels: Uint8Array;
  /** The last colour is that of cells without a value. */
  readonly palette: readonly Rgb[];
  readonly legend: Markup;
  readonly ends?: readonly [number, number];
}

const nothing: Rgb = [128, 128, 128];

function ofQuantity({ values }: HeatMap, scale: QuantityScale): Painted {
  let found = Infinity, greatest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) {
      found = Math.min(found, values[i]);
      greatest = Math.max(greatest, values[i]);
    }
  }
  const { least = found, most = greatest, colours = "one-sided" } = scale;
  const anchors = colours === "one-sided" ? oneSided : twoSided, shades = 255;
  const palette = [
    ...Array.from({ length: shades }, (_, i) => shade(anchors, i / (shades - 1))),
    nothing,
  ];
  const pixels = Uint8Array.from({ length: values.length }, (_, i) => {
    if (!Number.isFinite(values[i])) return shades;
    const part = most > least ? (values[i] - least) / (most - least) : 0.5;
    return Math.round((shades - 1) * Math.min(1, Math.max(0, part)));
  });
  const stops = anchors.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ");
  const ramp = markup`<i class="ramp" style="background: linear-gradient(90deg, ${stops})"></i>`;
  return {
    pixels,
    palette,
    ends: [least, most],
    legend: legend(
      markup`<span>${axisText(scale)}:</span> <span>${shortNumber(least)}</span>${ramp}<span>${
        shortNumber(most)
      }</span>`,
      "scale",
    ),
  };
}

function ofKinds({ values }: HeatMap, { label, unit, kinds }: KindScale): Painted {
  const palette = [...kinds.map((_, i) => kindColours[i % kindColours.length]), nothing];
  const entries = kinds.map((name, i) => {
    const colour = `color: rgb(${palette[i].join(" ")})`;
    return markup`<span><i class="swatch" style="${colour}"></i>${name}</span>`;
  });
  const known = (value: number) => Number.isInteger(value) && value >= 0 && value < kinds.length;
  return {
    pixels: Uint8Array.from(
      { length: values.length },
      (_, i) => known(values[i]) ? values[i] : kinds.length,
    ),
    palette,
    legend: legend(markup`<span>${axisText({ label, unit })}:</span>${entries}`),
  };
}

function rowOf({ values, columns }: HeatMap, row: number): number[] {
  const cells = Array.from({ length: columns }, (_, i) => values[row * columns + i]);
  return cells.filter(Number.isFinite);
}

function meansByRow(map: HeatMap, names: readonly string[]): Markup {
  return table(
    [map.y.label, "mean", "least", "most"],
    names.map((name, row) => {
      const cells = rowOf(map, row), { length } = cells;
      if (length === 0) return [name, undefined, undefined, undefined];
      const mean = cells.reduce((sum, value) => sum + value, 0) / length;
      const least = cells.reduce((a, b) => Math.min(a, b)),
        most = cells.reduce((a, b) => Math.max(a, b));
      return [name, mean, least, most];
    }),
  );
}

function kindsByRow(map: HeatMap, { kinds }: KindScale, names: readonly string[]): Markup {
  return table(
    [map.y.label, ...kinds.map((kind) => `part of ${kind}`)],
    names.map((name, row) => {
      const cells = rowOf(map, row);
      return [
        name,
        ...kinds.map((_, kind) => cells.filter((cell) => cell === kind).length / cells.length),
      ];
    }),
  );
}

/** From dark blue by green to yellow: lightness rises evenly, also to eyes that see fewer colours. */
const oneSided: readonly Rgb[] = [
  [46, 18, 94],
  [52, 68, 138],
  [36, 112, 142],
  [32, 150, 132],
  [92, 190, 90],
  [196, 216, 46],
  [250, 232, 72],
];

const twoSided: readonly Rgb[] = [
  [33, 86, 168],
  [130, 178, 218],
  [244, 244, 240],
  [240, 160, 120],
  [176, 36, 44],
];

const kindColours: readonly Rgb[] = [
  [68, 119, 170],
  [238, 102, 119],
  [34, 136, 51],
  [204, 187, 68],
  [102, 204, 238],
  [170, 51, 119],
  [187, 187, 187],
  [240, 150, 60],
];

/** A colour between anchors, `part` of the way from the first to the last. */
function shade(anchors: readonly Rgb[], part: number): Rgb {
  const at = part * (anchors.length - 1), i = Math.min(anchors.length - 2, Math.floor(at));
  const mix = (c: 0 | 1 | 2) =>
    Math.round(anchors[i][c] + (at - i) * (anchors[i + 1][c] - anchors[i][c]));
  return [mix(0), mix(1), mix(2)];
}
