/** Greedy texts for many requests, in the rows of one batch. */

import { bytesOf, leavesOf, type Spec } from "../graph/mod.ts";
import { type Continuation, continuation } from "../generate/continuation.ts";
import { commonLength, Slots } from "../generate/slots.ts";
import { type Device, OutOfMemoryError } from "../device/types.ts";
import type { OpenedModel } from "../open/mod.ts";
import type { GenerateAll, GenerateRequest } from "./types.ts";

/** Rows at once, as many as multiplying gains from; and steps between which rows may change. */
const mostRows = { cpu: 24, webgpu: 64 }, burst = { cpu: 4, webgpu: 32 };
/** Rows that a processor's arithmetic is used by; more gain only where weights come from memory. */
const fewRows = 8;
/** What a processor's cache holds, and what states may take of a device, in bytes. */
const cacheBytes = 2 ** 23, stateBytes = 2 ** 29;
/** Tokens in common that are worth remembering. */
const leastShared = 16;

interface Prompt {
  readonly index: number;
  readonly ids: readonly number[];
  /** Tokens that it has in common with those around it. */
  readonly shared: number;
  readonly request: GenerateRequest;
}

/** A text that is being made. */
interface Row {
  readonly prompt: Prompt;
  readonly continuation: Continuation;
  /** Tokens that are wanted and fit the context. */
  readonly limit: number;
  text: string;
  tokens: number;
}

export const generateAll: GenerateAll = async function* (opened, device, requests, options = {}) {
  const { signal } = options, { model, tokenizer } = opened;
  const capacity = model.dims.max_position_embeddings;
  const waiting = inOrder(requests, capacity).reverse();
  if (waiting.length === 0) return;
  const most = burst[device.info.kind];
  using slots = await slotsFor(opened, device, waiting.length, options.batch);
  const { batch } = slots.layout;
  const taken = new Map<number, Row>();
  for (;;) {
    for (let slot = 0; slot < batch && waiting.length > 0; slot++) {
      if (taken.has(slot)) continue;
      const prompt = waiting.pop()!, { ids, request } = prompt;
      await slots.put(slot, ids, prompt.shared);
      taken.set(slot, {
        prompt,
        continuation: continuation(tokenizer, request.stops, request.stop_ids),
        limit: Math.min(request.max_new_tokens, capacity - ids.length + 1),
        text: "",
        tokens: 0,
      });
    }
    if (taken.size === 0 || signal?.aborted) return;
    const left = [...taken.values()].map(({ limit, tokens }) => limit - tokens);
    for (const tokens of await slots.run(Math.min(most, ...left))) {
      for (const [slot, row] of taken) if (!isDone(row)) push(row, tokens[slot]);
    }
    for (const [slot, row] of taken) {
      if (!isDone(row)) continue;
      taken.delete(slot);
      slots.free(slot);
      const text = row.text + row.continuation.end();
      yield { index: row.prompt.index, text, tokens: row.tokens };
    }
  }
};

function push(row: Row, id: number): void {
  row.text += row.continuation.push(id);
  row.tokens++;
}

const isDone = ({ continuation, tokens, limit }: Row) =>
  continuation.ended !== undefined || tokens >= limit;

/** So many rows as are asked for; else as many as help, and fewer where the device has less memory than was thought. */
async function slotsFor(
  opened: OpenedModel,
  device: Device,
  prompts: number,
  wanted: number | undefined,
): Promise<Slots> {
  const capacity = opened.model.dims.max_position_embeddings;
  for (let batch = Math.min(prompts, wanted ?? batchFor(opened, device));; batch >>= 1) {
    const layout = { batch, capacity, weights: "f32" } as const;
    try {
      return await Slots.create(opened, device, layout, burst[device.info.kind]);
    } catch (error) {
      const isTooMuch = error instanceof OutOfMemoryError;
      if (!isTooMuch || wanted !== undefined || batch === 1) throw error;
    }
  }
}

/**
 * As many rows as there is room for. A processor whose cache holds the weights is slowed down by states that it does not
 * hold, too.
 */
function batchFor({ model }: OpenedModel, { info }: Device): number {
  const sum = (specs: unknown) =>
    leavesOf<Spec>(specs).reduce((sum, { leaf }) => sum + bytesOf(leaf), 0);
  const capacity = model.dims.max_position_embeddings;
  const row = sum(model.state({ batch: 1, capacity })), most = mostRows[info.kind];
  const fitting = Math.max(1, Math.min(most, Math.floor(stateBytes / row)));
  if (info.kind === "webgpu" || sum(model.params) > cacheBytes) return fitting;
  return Math.min(fitting, Math.max(fewRows, Math.floor(cacheBytes / row)));
}

/**
 * Prompts that begin alike stand together, so that what they share is read once. Of one that leaves no room
 * for its tokens the beginning goes.
 */
function inOrder(requests: readonly GenerateRequest[], capacity: number): Prompt[] {
  const prompts = requests.map((request, index) => {
    const room = Math.max(1, capacity - request.max_new_tokens);
    return { index, request, ids: Array.from(request.context).slice(-room) };
  }).sort((a, b) => compare(a.ids, b.ids) || a.index - b.index);
  const common = prompts.slice(1).map(({ ids }, i) => commonLength(prompts[i].ids, ids));
  const shared = new Array<number>(prompts.length).fill(0);
  for (let from = 0; from < prompts.length;) {
    let to = from, least = Infinity;
    while (to < common.length && common[to] >= leastShared) least = Math.min(least, common[to++]);
    for (let i = from; i <= to && to > from; i++) {
      shared[i] = Math.min(least, prompts[i].ids.length - 1);
    }
    from = to + 1;
  }
  return prompts.map((prompt, i) => ({ ...prompt, shared: shared[i] }));
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = commonLength(a, b);
  return (a[at] ?? -1) - (b[at] ?? -1);
}
