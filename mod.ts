/**
 * quern as a library: the parts behind the commands, re-exported.
 *
 * @module
 */
export { loadConfig, parseConfig } from "./core/io/config.ts";
export { UserError } from "./core/io/errors.ts";
export { openSafetensors, writeSafetensors } from "./core/io/safetensors.ts";
export { loadTokenizer } from "./core/text/load.ts";
export { streamingDecoder } from "./core/text/streaming.ts";
export { byteTokenizer, characterTokenizer, type Tokenizer } from "./core/text/tokenizer.ts";
export { type Batch, firstCursor, nextBatch, validationBatches } from "./core/data/batches.ts";
export { makeCorpus } from "./core/data/corpus.ts";
export { openShards, type ShardReader } from "./core/data/shard_reader.ts";
export { tokenizeFiles } from "./core/data/tokenize.ts";
