/**
 * The artifact: a trained model in one small file.
 *
 *     "QUERNART"        8 bytes
 *     header bytes      u32, little endian
 *     header            JSON, compressed with zstd: what the model is, its tokenizer, and each tensor's name, shape and form
 *     body              compressed: all scales, all halves, all levels
 *
 * Scales and halves are little-endian f16, first all low bytes and then all high ones; levels are one byte each, or packed
 * to their bits as in the challenge's own artifact. Whatever a file claims is checked before memory is taken for it.
 */

import { createHash } from "node:crypto";
import { z } from "zod";
import { sizeOf } from "../graph/mod.ts";
import { exitCodes, jsonFault, messageOf, UserError } from "../io/errors.ts";
import { packBits, packedBytes, unpackBits } from "./bits.ts";
import { compress, type Compression, compressions, decompress } from "./compression.ts";
import { formSchema, levelBits, rowLength, type Stored } from "./forms.ts";
import { rangeOf } from "./levels.ts";

const magic = "QUERNART";
const longestHeader = 64 << 20, mostNumbers = 2 ** 40;
/** What a body may grow to: levels and halves of a trained model become a few times as long. */
const mostGrowth = 1000, alwaysAllowed = 64 << 20;

export const packings = ["bytes", "bits"] as const;
export type Packing = typeof packings[number];

const size = z.int().min(0);

const headerSchema = z.strictObject({
  format: z.literal("quern-artifact"),
  version: z.literal(1),
  /** What the writer says of the model; see `core/quant/export.ts`. */
  facts: z.record(z.string(), z.unknown()),
  tensors: z.array(z.strictObject({
    name: z.string().min(1),
    shape: z.array(size).readonly(),
    form: formSchema,
  })).readonly(),
  packing: z.enum(packings),
  body: z.strictObject({
    compression: z.enum(compressions),
    /** Before compression. */
    bytes: size,
    /** Of the compressed bytes. */
    sha256: z.string(),
  }),
});

type Header = z.output<typeof headerSchema>;

/** What an artifact holds. */
export interface Artifact {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly tensors: readonly Stored[];
}

/** A file's bytes, and where they went. */
export interface EncodedArtifact {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headerBytes: number;
  readonly bodyBytes: number;
  readonly compression: Compression;
  /** The body's size by each compression that was tried. */
  readonly tried: Readonly<Partial<Record<Compression, number>>>;
}

/** The file of an artifact, with the compression that leaves the fewest bytes. */
export function encodeArtifact(
  { facts, tensors }: Artifact,
  packing: Packing = "bytes",
  tries: readonly Compression[] = compressions,
): EncodedArtifact {
  const plain = bodyOf(tensors, packing);
  const bodies = tries.map((compression) => ({ compression, bytes: compress(plain, compression) }));
  const best = bodies.reduce((a, b) => b.bytes.length < a.bytes.length ? b : a);
  const header: Header = {
    format: "quern-artifact",
    version: 1,
    facts,
    tensors: tensors.map(({ name, shape, form }) => ({ name, shape, form })),
    packing,
    body: { compression: best.compression, bytes: plain.length, sha256: sha256(best.bytes) },
  };
  const head = compress(new TextEncoder().encode(JSON.stringify(header)), "zstd");
  const start = magic.length + 4, bytes = new Uint8Array(start + head.length + best.bytes.length);
  bytes.set(new TextEncoder().encode(magic));
  new DataView(bytes.buffer).setUint32(magic.length, head.length, true);
  bytes.set(head, start);
  bytes.set(best.bytes, start + head.length);
  return {
    bytes,
    headerBytes: start + head.length,
    bodyBytes: best.bytes.length,
    compression: best.compression,
    tried: Object.fromEntries(bodies.map(({ compression, bytes }) => [compression, bytes.length])),
  };
}

/** Whether a file begins as an artifact does. */
export function isArtifact(start: Uint8Array): boolean {
  return start.length >= magic.length && [...magic].every((c, i) => c.charCodeAt(0) === start[i]);
}

/** Reads a file's bytes; `where` names it in errors. */
export function decodeArtifact(bytes: Uint8Array, where: string): Artifact {
  const refuse = (what: string): never => {
    throw new UserError(what, {
      where,
      hint: "copy the artifact again, or make it again: quern export --to artifact",
      exitCode: exitCodes.failed,
    });
  };
  if (!isArtifact(bytes)) return refuse("not an artifact: it does not begin with QUERNART");
  const start = magic.length + 4;
  if (bytes.length < start) return refuse("the artifact is cut short");
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(magic.length, true);
  if (length > bytes.length - start) return refuse("the artifact is cut short within its header");
  const header = parseHeader(bytes.subarray(start, start + length), refuse);
  const compressed = bytes.subarray(start + length), { body, tensors, packing } = header;
  const fault = faultOf(header);
  if (fault) return refuse(fault);
  if (body.bytes > Math.max(alwaysAllowed, mostGrowth * compressed.length)) {
    return refuse(`the artifact's ${compressed.length} bytes are to become ${body.bytes}`);
  }
  if (sha256(compressed) !== body.sha256) return refuse("the artifact's tensors are damaged");
  try {
    const plain = decompress(compressed, body.compression, body.bytes);
    return { facts: header.facts, tensors: tensorsOf(plain, tensors, packing) };
  } catch (error) {
    return refuse(`the artifact's tensors cannot be read: ${messageOf(error)}`);
  }
}

function parseHeader(compressed: Uint8Array, refuse: (what: string) => never): Header {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(decompress(compressed, "zstd", longestHeader)));
  } catch (error) {
    return refuse(`the artifact's header is damaged: ${jsonFault(error)}`);
  }
  const { data, error } = headerSchema.safeParse(json);
  if (data) return data;
  const { path, message } = error.issues[0];
  return refuse(`the artifact's header is damaged: ${path.join(".")}: ${message}`);
}

type Described = Header["tensors"][number];

/** What is wrong with what a header claims. */
function faultOf({ tensors, packing, body }: Header): string | undefined {
  const names = new Set<string>();
  for (const { name, shape } of tensors) {
    if (names.has(name)) return `the artifact holds ${name} twice`;
    names.add(name);
    if (!(sizeOf(shape) <= mostNumbers)) return `the artifact's ${name} is [${shape}]`;
  }
  const needed = tensors.reduce((sum, one) => sum + plainBytes(one, packing), 0);
  if (needed === body.bytes) return undefined;
  return `the artifact's tensors take ${needed} bytes, but it says ${body.bytes}`;
}

function rowsOf(shape: readonly number[]): number {
  const columns = rowLength(shape);
  return columns === 0 ? 0 : sizeOf(shape) / columns;
}

function plainBytes(tensor: Described, packing: Packing): number {
  if (tensor.form === "f16") return 2 * sizeOf(tensor.shape);
  return 2 * rowsOf(tensor.shape) + levelBytes(tensor, packing);
}

function levelBytes({ form, shape }: Pick<Described, "form" | "shape">, packing: Packing): number {
  const count = sizeOf(shape);
  return form === "f16" ? 0 : packing === "bits" ? packedBytes(count, levelBits(form)) : count;
}

function bodyOf(tensors: readonly Stored[], packing: Packing): Uint8Array<ArrayBuffer> {
  const planes = planesOf(
    tensors.map((one) => one.form === "f16" ? one.halves : one.levels.scales),
  );
  const streams = tensors.flatMap((one) => {
    if (one.form === "f16") return [];
    const { levels, bits } = one.levels;
    if (packing === "bits") return [packBits(levels, bits)];
    return [Uint8Array.from(levels, (level) => level + rangeOf(bits))];
  });
  const body = new Uint8Array([planes, ...streams].reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const bytes of [planes, ...streams]) {
    body.set(bytes, at);
    at += bytes.length;
  }
  return body;
}

/** f16 numbers, all low bytes before all high ones: those are noise, these are much alike. */
function planesOf(parts: readonly (Float16Array | Float32Array)[]): Uint8Array<ArrayBuffer> {
  const count = parts.reduce((sum, { length }) => sum + length, 0);
  const planes = new Uint8Array(2 * count);
  let at = 0;
  for (const part of parts) {
    const bytes = new Uint8Array(Float16Array.from(part).buffer);
    for (let i = 0; i < part.length; i++, at++) {
      planes[at] = bytes[2 * i];
      planes[count + at] = bytes[2 * i + 1];
    }
  }
  return planes;
}

function fromPlanes(planes: Uint8Array): Float16Array<ArrayBuffer> {
  const values = new Float16Array(planes.length / 2), bytes = new Uint8Array(values.buffer);
  for (let i = 0; i < values.length; i++) {
    bytes[2 * i] = planes[i];
    bytes[2 * i + 1] = planes[values.length + i];
  }
  return values;
}

function tensorsOf(
  plain: Uint8Array,
  tensors: readonly Described[],
  packing: Packing,
): Stored[] {
  const counts = tensors.map(({ form, shape }) => form === "f16" ? sizeOf(shape) : rowsOf(shape));
  const numbers = counts.reduce((sum, n) => sum + n, 0);
  const halves = fromPlanes(plain.subarray(0, 2 * numbers));
  let number = 0, at = 2 * numbers;
  return tensors.map((tensor, i): Stored => {
    const { name, shape, form } = tensor;
    const own = halves.slice(number, number += counts[i]);
    if (own.some((x) => !Number.isFinite(x))) throw new RangeError(`${name} is not finite`);
    if (form === "f16") return { name, shape, form, halves: own };
    const bytes = plain.subarray(at, at += levelBytes(tensor, packing));
    const bits = levelBits(form), range = rangeOf(bits), rows = rowsOf(shape);
    const levels = packing === "bits"
      ? unpackBits(bytes, bits, sizeOf(shape))
      : Int8Array.from(bytes, (code) => {
        if (code > 2 * range) throw new RangeError(`${name} has the level ${code - range}`);
        return code - range;
      });
    const scales = Float32Array.from(own);
    return { name, shape, form, levels: { bits, rows, columns: rowLength(shape), levels, scales } };
  });
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
