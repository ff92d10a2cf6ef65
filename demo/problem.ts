/** What goes wrong, as sentences for the page that say what to do about it. */

/** Something a person can do something about; its message is one or two plain sentences for the page. */
export class Problem extends Error {}

/** The GPU was lost; what to do about it depends on what the page was busy with, so the page adds that. */
export class GpuLoss extends Problem {}

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

/** Why the GPU's work failed, in a sentence, from what WebGPU reports: one error after another, each of some lines. */
export function reasonOfReport(error: GPUError): string {
  if (error instanceof GPUOutOfMemoryError || isOutOfMemory(error, error.message)) return outOfMemory;
  return `The GPU reported an error: ${error.message.split('\n')[0]}`;
}

function isKnown(reason: string): boolean {
  return reason === outOfMemory || reason === noRoom;
}

const noRoom = 'The browser has no room left to keep the model. Download it instead, or free some space for this site.';

export const outOfMemory =
  'The GPU’s memory is full, or too small for this. Choose a smaller context or batch, Flash attention, LoRA in place of ' +
  'full fine-tuning, or a smaller model.';

/**
 * What browsers, tfjs and this library say when memory is short, on the GPU or beside it: of full memory, and of tensors
 * that are more than one buffer or texture holds.
 */
const SHORT_OF_MEMORY =
  /out of memory|texture size|failed to allocate|but a (buffer|texture) of this|(buffer size|binding size|binding \d+ range).* (exceeds|larger than|greater than) /i;

function isOutOfMemory(error: unknown, message: string): boolean {
  return error instanceof RangeError ? /allocation|array length|buffer/i.test(message) : SHORT_OF_MEMORY.test(message);
}
