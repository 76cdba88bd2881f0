/** What a run trains and measures on, wherever it comes from: rows from a cursor, and what names them in its files. */

import type { Batch } from "../data/batches.ts";
import type { DataCursor } from "../data/mixture.ts";
import type { ChatTemplate } from "../text/chat/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Checkpoint, CheckpointState } from "./checkpoint.ts";
import type { RowShape } from "./rows.ts";

/** A part of an update that is to be filled. */
export interface PartPlace {
  /** Updates done. */
  readonly step: number;
  /** What the device has plans for; the data choose one. */
  readonly shapes: readonly RowShape[];
}

export interface TrainingData {
  readonly tokenizer: Tokenizer;
  /** Ids that rows may have: 0 up to one less. */
  readonly vocabSize: number;
  /** The token before each text, which a prompt gets, too; undefined where there is none. */
  readonly beginning: number | undefined;
  /** Where texts are conversations: how they are written. */
  readonly template?: ChatTemplate | undefined;
  /** The cursor that a run begins with. */
  readonly first: DataCursor;
  /** The rows at a cursor, and the cursor behind them: the same each time. */
  next(
    cursor: DataCursor,
    place: PartPlace,
  ): { readonly batch: Batch; readonly cursor: DataCursor };
  /** Whether several sources are mixed, be it one. */
  readonly isMixture: boolean;
  /** Tokens that each source gave up to a cursor, by its name; undefined of what is no mixture. */
  tokensBySource(cursor: DataCursor): Record<string, number> | undefined;
  /** The sources that hold something out to be measured with. */
  readonly heldOut: readonly HeldOutData[];
  /** Names the data in a checkpoint. */
  readonly fingerprint: CheckpointState["data_sha256"];
  /** What the run's manifest says of them. */
  readonly record: unknown;
  /** Puts what a run needs besides its config and weights into its new folder: the tokenizer, at least. */
  place(folder: string): Promise<void>;
  /** Refuses data that are not those of a checkpoint, or that are cut into rows otherwise. */
  requireSame(checkpoint: Checkpoint): void;
  /** Refuses data that fill no row of such a length. */
  requireRows(length: number): void;
}

/** What a source holds out. */
export interface HeldOutData {
  readonly name: string;
  /** All of it in order, or its first `maxTargets` targets at most: the number of rows cannot change a sum over them. */
  batches(shapes: readonly RowShape[], maxTargets: number): Iterable<Batch>;
  /** How much its targets count together; `maxTargets` of them at most. */
  count(maxTargets: number): number;
  /** Its tokens, and the bytes of the text that they stand for; NaN where nobody knows. */
  readonly size: { readonly tokens: number; readonly bytes: number };
}
