/** Where rows of a limited context lie on a long text. Targets count from 0; target i is the token behind input i. */

/** A row that reads inputs from `start` on, and the first of its targets that is counted. */
export interface Window {
  readonly start: number;
  readonly length: number;
  /** Counted from the window's start. */
  readonly from: number;
}

/**
 * Every target once: windows end at `context`, at every `stride` behind that, and at the text's end; each reads as much
 * before its end as there is context, and counts what those before it did not. With a stride of the whole context that is
 * lm-evaluation-harness's rolling window.
 */
export function* windowsOnce(targets: number, context: number, stride: number): Generator<Window> {
  for (let counted = 0; counted < targets;) {
    const end = Math.min(targets, counted + (counted === 0 ? context : stride));
    const start = Math.max(0, end - context);
    yield { start, length: end - start, from: counted - start };
    counted = end;
  }
}

/**
 * As parameter-golf counts: a window begins at every multiple of the stride; the first counts all its targets, later ones
 * their last `stride`. Those that would run over the end are cut short, and so the last targets are counted by each of them,
 * with ever less context.
 */
export function* windowsOfChallenge(
  targets: number,
  context: number,
  stride: number,
): Generator<Window> {
  for (let start = 0; start < targets; start += stride) {
    const length = Math.min(context, targets - start);
    yield { start, length, from: start === 0 ? 0 : Math.max(0, length - stride) };
  }
}

/** Rows side by side; what fills none is left out. */
export function* wholeRows(targets: number, context: number): Generator<Window> {
  for (let start = 0; start + context <= targets; start += context) {
    yield { start, length: context, from: 0 };
  }
}
