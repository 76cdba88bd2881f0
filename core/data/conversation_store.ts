/**
 * Encoded conversations on disk: ids and weights of all, one after the other, read by number. Written once, then read in any
 * order without being held.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { writeAllBytesSync } from "../io/atomic.ts";
import { messageOf } from "../io/errors.ts";
import type { Conversations } from "./conversation_rows.ts";
import { damaged, readExactly } from "./token_files.ts";

/** What an index says of some conversations. */
export const conversationsIndex = z.strictObject({
  /** What its files are called: NAME.ids, NAME.weights, NAME.lengths. */
  name: z.string(),
  conversations: z.int().min(0),
  /** Of all, those that are only read among them. */
  tokens: z.int().min(0),
  /** Tokens that count as targets, and how much together. */
  targets: z.int().min(0),
  weight: z.number().min(0),
  /** UTF-8 bytes of the text that the tokens stand for. */
  bytes: z.int().min(0),
  /** Of all that the files hold. */
  sha256: z.string(),
});
export type ConversationsIndex = z.output<typeof conversationsIndex>;

/** A conversation, ready to be stored. */
export interface EncodedConversationData {
  readonly ids: Uint32Array;
  readonly weights: Float32Array;
  readonly bytes: number;
}

/** Stores conversations as they come. */
export interface ConversationWriter extends Disposable {
  add(conversation: EncodedConversationData): void;
  finish(): ConversationsIndex;
}

const extensions = ["ids", "weights", "lengths"] as const;
type Extension = typeof extensions[number];

/** So many values are held before they are written. */
const held = 2 ** 16;

export function conversationWriter(folder: string, name: string): ConversationWriter {
  using stack = new DisposableStack();
  const open = (extension: Extension) =>
    stack.use(columnWriter(join(folder, `${name}.${extension}`)));
  const [ids, weights, lengths] = extensions.map(open);
  const owned = stack.move();
  const sums = { conversations: 0, tokens: 0, targets: 0, weight: 0, bytes: 0 };
  return {
    add({ ids: tokens, weights: counts, bytes }) {
      ids.add(tokens);
      weights.add(new Uint32Array(counts.buffer, counts.byteOffset, counts.length));
      lengths.add(Uint32Array.of(tokens.length));
      sums.conversations++;
      sums.tokens += tokens.length;
      sums.bytes += bytes;
      for (const weight of counts.subarray(1)) {
        sums.targets += weight > 0 ? 1 : 0;
        sums.weight += weight;
      }
    },
    finish() {
      const hash = createHash("sha256");
      for (const column of [ids, weights, lengths]) hash.update(column.finish());
      return { name, ...sums, sha256: hash.digest("hex") };
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** A file of 32-bit words; `finish` tells its hash. */
function columnWriter(path: string) {
  const file = Deno.openSync(path, { write: true, createNew: true });
  const hash: Hash = createHash("sha256"), words = new Uint32Array(held);
  let count = 0;
  const flush = () => {
    const bytes = new Uint8Array(words.buffer, 0, 4 * count);
    hash.update(bytes);
    writeAllBytesSync(file, bytes);
    count = 0;
  };
  return {
    add(values: Uint32Array) {
      for (let done = 0; done < values.length;) {
        const some = Math.min(values.length - done, held - count);
        words.set(values.subarray(done, done + some), count);
        count += some;
        done += some;
        if (count === held) flush();
      }
    },
    finish() {
      flush();
      return hash.digest();
    },
    [Symbol.dispose]: () => file.close(),
  };
}

/** Open conversations; close them with `using`. */
export interface ConversationReader extends Conversations, Disposable {
  readonly index: ConversationsIndex;
}

/** Opens what a writer wrote. Its sizes must be what the index says; its contents are trusted. */
export function openConversations(folder: string, index: ConversationsIndex): ConversationReader {
  const { name, conversations: count, tokens } = index;
  using stack = new DisposableStack();
  const open = (extension: Extension, words: number) => {
    const path = join(folder, `${name}.${extension}`), file = openSizedSync(path, 4 * words);
    stack.defer(() => file.close());
    return { file, path };
  };
  const [ids, weights] = [open("ids", tokens), open("weights", tokens)];
  const lengths = open("lengths", count), starts = startsOf(lengths, index);
  const readWords = (from: typeof ids, i: number) => {
    const words = new Uint32Array(starts[i + 1] - starts[i]);
    readExactly(from, 4 * starts[i], words);
    return words.buffer;
  };
  const weightsOf = (i: number) => new Float32Array(readWords(weights, i));
  const owned = stack.move();
  return {
    index,
    count,
    lengthOf: (i) => starts[i + 1] - starts[i],
    countOf: (i) => weightsOf(i).subarray(1).reduce((sum, weight) => sum + weight, 0),
    read: (i) => ({ ids: new Int32Array(readWords(ids, i)), weights: weightsOf(i) }),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

const damageHint = "the run's conversations are damaged: begin it again";

function openSizedSync(path: string, bytes: number): Deno.FsFile {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    throw damaged(path, messageOf(error), damageHint);
  }
  const { size } = file.statSync();
  if (size === bytes) return file;
  file.close();
  throw damaged(path, `has ${size} bytes, the index says ${bytes}`, damageHint);
}

function startsOf(
  lengths: { readonly file: Deno.FsFile; readonly path: string },
  { conversations, tokens }: ConversationsIndex,
): Float64Array {
  const words = new Uint32Array(conversations), starts = new Float64Array(conversations + 1);
  readExactly(lengths, 0, words);
  words.forEach((length, i) => starts[i + 1] = starts[i] + length);
  if (starts[conversations] === tokens) return starts;
  throw damaged(
    lengths.path,
    `its conversations have ${starts[conversations]} tokens together, not ${tokens}`,
    damageHint,
  );
}
