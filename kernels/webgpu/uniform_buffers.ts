/**
 * Buffers with a dispatch's uniforms. In a training loop the same few hundred recur in every step; a write into a buffer
 * each time costs the host a call and the GPU a copy and a barrier, so those that recur keep a buffer of their own.
 */

/** Uniforms of sizes that vary from call to call, or that hold seeds, must not fill the memory. */
const MOST_KEPT = 2048;

export class UniformBuffers {
  private readonly kept = new Map<string, GPUBuffer>();
  private readonly seenOnce = new Set<string>();

  constructor(private readonly device: GPUDevice) {}

  /** The buffer with these contents, from their second call on. It must not be written or destroyed. */
  find(contents: ArrayBuffer): GPUBuffer | undefined {
    const words = new Uint32Array(contents);
    const key = words.join();
    const kept = this.kept.get(key);
    if (kept) return kept;
    if (!this.seenOnce.delete(key)) {
      this.remember(key);
      return undefined;
    }
    // Full of what recurred once: start again. Dispatches in flight hold on to the buffers that they use.
    if (this.kept.size >= MOST_KEPT) this.kept.clear();
    const buffer = this.device.createBuffer({
      size: contents.byteLength,
      usage: GPUBufferUsage.UNIFORM,
      mappedAtCreation: true,
    });
    new Uint32Array(buffer.getMappedRange()).set(words);
    buffer.unmap();
    this.kept.set(key, buffer);
    return buffer;
  }

  private remember(key: string): void {
    if (this.seenOnce.size >= MOST_KEPT) this.seenOnce.clear();
    this.seenOnce.add(key);
  }
}
