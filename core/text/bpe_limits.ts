/**
 * How large a byte-level BPE may be.
 *
 * @module
 */

/** The smallest vocabulary: all bytes, and the end of a text. */
export const leastBpeVocab = 257;
/** The largest: two ids must fit one exact number. */
export const mostBpeVocab = 2 ** 20;
