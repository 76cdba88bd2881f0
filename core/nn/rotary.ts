/** How the channels of queries and keys turn with the position. */

import { z } from "zod";
import { constant, positionsFrom, rope, ropeTables } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import type { Dims } from "./part.ts";

export const rotaryOptions = {
  rope_theta: z.number().positive().default(10000),
  /** The part of a head's channels that turns with the position; 0 turns none. */
  partial_rotary_factor: z.number().min(0).max(1).default(1),
  /** What angles are counted from: the start of a token's segment, or of the row that it is packed in. */
  positions: z.enum(["segment", "row"]).default("segment"),
  /** −1 turns the other way: the same model, but for weights that were trained so. */
  rope_direction: z.union([z.literal(1), z.literal(-1)]).default(1),
  /**
   * Positions that rope_theta is meant for. With more the model turns slower: by theta · (positions / these)^(r / (r − 2)),
   * r being the channels that turn. The model's positions count, not a row's, so that all its texts turn alike.
   */
  rope_original_positions: z.int().positive().optional(),
};
const options = z.strictObject(rotaryOptions);
export type RotaryConfig = z.output<typeof options>;

/** Angles depend on these three numbers alone; all layers and steps of a model share the tables. */
const tables = new Map<string, [Tensor, Tensor]>();

function rotaryTables(positions: number, rotary: number, theta: number): [Tensor, Tensor] {
  const key = `${positions}:${rotary}:${theta}`, known = tables.get(key);
  if (known) return known;
  const made = ropeTables(positions, rotary, theta);
  tables.set(key, made);
  return made;
}

/** The base of the angles of `rotary` channels, in a model of so many positions. */
export function ropeBase(
  { rope_theta, rope_original_positions }: Pick<
    RotaryConfig,
    "rope_theta" | "rope_original_positions"
  >,
  positions: number,
  rotary: number,
): number {
  const times = positions / (rope_original_positions ?? positions);
  return times > 1 && rotary > 2 ? rope_theta * times ** (rotary / (rotary - 2)) : rope_theta;
}

/** x [batch, time, heads, width], its first `rotary` channels turned by their positions. */
export function turned(
  x: Tensor,
  positions: Tensor,
  rotary: number,
  config: RotaryConfig,
  { max_position_embeddings: all }: Pick<Dims, "max_position_embeddings">,
): Tensor {
  if (rotary === 0) return x;
  const tables = rotaryTables(all, rotary, ropeBase(config, all, rotary));
  return rope(x, positions, tables, { direction: config.rope_direction });
}

/** i32 [batch, time]: 0, 1, … in each row of x [batch, time, …]. */
export function rowPositions({ shape: [batch, time] }: Tensor): Tensor {
  return positionsFrom(constant(`row starts ${batch}`, [batch], new Int32Array(batch)), time);
}
