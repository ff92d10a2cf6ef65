/** What goes wrong, as sentences for the page that say what to do about it. */

/** Something a person can do something about; its message is one or two plain sentences for the page. */
export class Problem extends Error {}

/** What to tell of any error. */
export function sentenceFor(error: unknown): string {
  if (error instanceof Problem) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  if (isOutOfMemory(error, message)) return outOfMemory;
  if (error instanceof DOMException && error.name === 'QuotaExceededError') {
    return 'The browser has no room left to keep the model. Download it instead, or free some space for this site.';
  }
  return `That did not work: ${message}${/[.!?]$/.test(message) ? '' : '.'}`;
}

export const outOfMemory =
  'The GPU’s memory is full. Choose a smaller context or batch, LoRA in place of full fine-tuning, or a smaller model.';

/** What browsers and tfjs say when memory is short, on the GPU or beside it. */
function isOutOfMemory(error: unknown, message: string): boolean {
  return error instanceof RangeError
    ? /allocation|array length|buffer/i.test(message)
    : /out of memory|texture size|failed to allocate/i.test(message);
}
