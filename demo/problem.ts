/** What goes wrong, as sentences for the page that say what to do about it. */

/** Something a person can do something about; its message is one or two plain sentences for the page. */
export class Problem extends Error {}

/** What to tell of any error. */
export function sentenceFor(error: unknown): string {
  const reason = reasonOf(error);
  return error instanceof Problem || isKnown(reason) ? reason : `That did not work: ${reason}`;
}

/** Why something failed, in a sentence. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (isOutOfMemory(error, message)) return outOfMemory;
  if (error instanceof DOMException && (error.name === 'QuotaExceededError' || /too large/.test(message))) {
    return noRoom;
  }
  return /[.!?]$/.test(message) ? message : `${message}.`;
}

function isKnown(reason: string): boolean {
  return reason === outOfMemory || reason === noRoom;
}

const noRoom = 'The browser has no room left to keep the model. Download it instead, or free some space for this site.';

export const outOfMemory =
  'The GPU’s memory is full. Choose a smaller context or batch, LoRA in place of full fine-tuning, or a smaller model.';

/** What browsers and tfjs say when memory is short, on the GPU or beside it. */
function isOutOfMemory(error: unknown, message: string): boolean {
  return error instanceof RangeError
    ? /allocation|array length|buffer/i.test(message)
    : /out of memory|texture size|failed to allocate/i.test(message);
}
