/** The class `KeyValueCache`. */
import {
  keep,
  type Rank,
  range,
  reshape,
  slice,
  type Tensor,
  type Tensor1D,
  type Tensor4D,
  tidy,
  tile,
  zeros,
} from '@tensorflow/tfjs-core';
import {appendRows} from '../ops/append_rows.js';
import {rememberLargest} from '../ops/known_lengths.js';

/** The sizes of a {@link KeyValueCache}. */
export interface KeyValueCacheOptions {
  /** B, the samples that are generated side by side. */
  batch: number;
  /** The most tokens that a sample can have. */
  capacity: number;
  /** Hk. */
  numKvHeads: number;
  /** D of keys. */
  keyDim: number;
  /** Dv of values. Default: keyDim. */
  valueDim?: number;
}

/**
 * The keys and values of the tokens so far, of one attention layer, for generation token by token. Memory for `capacity`
 * tokens is taken once; a token's rows are written into it, and nothing else is allocated or copied. Attention reads the
 * cache in place, and ignores what lies past its length.
 *
 * Backends other than CPU, WebGL and WebGPU cannot write into a tensor, and copy the cache at each `append`.
 *
 * `append` changes the memory of `keys` and `values`, and with it whatever shares that, such as their clones and reshapes.
 * Results of ops that were given the cache stay as they were, also where the GPU has not come to them yet. Take `keys`,
 * `values` and `keyLengths` from the cache anew after each `append`: the cache owns and disposes them. Gradients do not
 * flow through it.
 *
 * ```js
 * const [B, H, Hk, D] = [1, 4, 2, 16];
 * const cache = new tf.KeyValueCache({batch: B, capacity: 128, numKvHeads: Hk, keyDim: D});
 * for (const count of [10, 1, 1]) { // a prompt of 10 tokens, then single ones
 *   const output = tf.tidy(() => {
 *     cache.append(tf.randomNormal([B, count, Hk, D]), tf.randomNormal([B, count, Hk, D]));
 *     const q = tf.randomNormal([B, count, H, D]);
 *     const {keys, values, keyLengths} = cache;
 *     return tf.flashAttention(q, keys, values, {causal: true, keyLengths, order: 'BSHD'});
 *   });
 *   console.log(cache.length, output.shape); // 10 [1, 10, 4, 16], 11 [1, 1, 4, 16], 12 [1, 1, 4, 16]
 *   output.dispose();
 * }
 * cache.dispose();
 * ```
 */
export class KeyValueCache {
  readonly batch: number;
  readonly capacity: number;
  private readonly rowShapes: {key: [number, number]; value: [number, number]};
  private stored: {keys: Tensor4D; values: Tensor4D} | null;
  /** [capacity + 1, B]: row n holds n for each sample, so that no length is uploaded while generating. */
  private readonly lengthTable: Tensor;
  private lengths: Tensor1D | null = null;
  private tokens = 0;

  /** @throws Error if a size is not a positive integer. */
  constructor({batch, capacity, numKvHeads, keyDim, valueDim = keyDim}: KeyValueCacheOptions) {
    for (const [name, size] of Object.entries({batch, capacity, numKvHeads, keyDim, valueDim})) {
      if (!Number.isInteger(size) || size < 1) fail(`${name} must be a positive integer, got ${size}.`);
    }
    this.batch = batch;
    this.capacity = capacity;
    this.rowShapes = {key: [numKvHeads, keyDim], value: [numKvHeads, valueDim]};
    // Rows past the length are multiplied by probabilities of 0, so they must be finite.
    const empty = (rowShape: [number, number]) => keep(zeros<Rank.R4>([batch, capacity, ...rowShape]));
    this.stored = {keys: empty(this.rowShapes.key), values: empty(this.rowShapes.value)};
    this.lengthTable = keep(
      tidy(() => tile(reshape(range(0, capacity + 1, 1, 'int32'), [capacity + 1, 1]), [1, batch])),
    );
  }

  /** [B, capacity, Hk, D] float32: the keys of `length` tokens, and room. */
  get keys(): Tensor4D {
    return this.alive().keys;
  }

  /** [B, capacity, Hk, Dv] float32: the values of `length` tokens, and room. */
  get values(): Tensor4D {
    return this.alive().values;
  }

  /** Tokens so far. */
  get length(): number {
    return this.tokens;
  }

  /** [B] int32: `length` for each sample, as attention's option of this name wants it. */
  get keyLengths(): Tensor1D {
    this.alive();
    if (!this.lengths) {
      this.lengths = keep(tidy(() => reshape(slice(this.lengthTable, [this.length, 0], [1, -1]), [this.batch])));
      rememberLargest(this.lengths, this.length);
    }
    return this.lengths;
  }

  /**
   * Adds tokens after those that are there. The arguments stay the caller's.
   *
   * @param key [B, Sn, Hk, D] float32: the keys of Sn new tokens.
   * @param value [B, Sn, Hk, Dv] float32: their values.
   * @throws Error if a shape does not fit or the capacity does not suffice; the cache stays as it was.
   */
  append(key: Tensor4D, value: Tensor4D): void {
    const {keys, values} = this.alive();
    const count = key.shape[1];
    this.checkRows('key', key, count);
    this.checkRows('value', value, count);
    if (this.length + count > this.capacity) {
      fail(
        `append would exceed the capacity of ${this.capacity} tokens: there are ${this.length}, and key of shape ` +
          `[${key.shape.join(', ')}] adds ${count}.`,
      );
    }
    if (count === 0) return;
    this.stored = {keys: this.appended(keys, key), values: this.appended(values, value)};
    this.setLength(this.length + count);
  }

  /**
   * Forgets all tokens but the first so many, to take back a guess or to start anew with 0.
   *
   * @throws Error if there are not as many.
   */
  truncate(length: number): void {
    this.alive();
    if (!Number.isInteger(length) || length < 0 || length > this.length) {
      fail(`length must be an integer between 0 and the ${this.length} tokens that there are, got ${length}.`);
    }
    this.setLength(length);
  }

  /** Frees the memory. The cache is of no use afterwards; disposing it again does nothing. */
  dispose(): void {
    if (!this.stored) return;
    const {keys, values} = this.stored;
    for (const tensor of [keys, values, this.lengthTable, this.lengths]) tensor?.dispose();
    this.stored = null;
    this.lengths = null;
  }

  private alive(): {keys: Tensor4D; values: Tensor4D} {
    return this.stored ?? fail('the cache has been disposed.');
  }

  private checkRows(name: 'key' | 'value', {dtype, shape}: Tensor, count: number): void {
    const wanted = [this.batch, count, ...this.rowShapes[name]];
    if (dtype === 'float32' && shape.length === 4 && wanted.every((size, axis) => size === shape[axis])) return;
    const axes = name === 'key' ? '[B, Sn, Hk, D]' : '[B, Sn, Hk, Dv]';
    const sizes = name === 'key' ? [this.batch, 'Sn', ...this.rowShapes.key] : wanted;
    fail(`${name} must be float32 ${axes} = [${sizes.join(', ')}], got ${dtype} [${shape.join(', ')}].`);
  }

  private appended(stored: Tensor4D, rows: Tensor4D): Tensor4D {
    const result = keep(appendRows(stored, rows, this.length));
    stored.dispose();
    return result;
  }

  private setLength(length: number): void {
    if (length === this.tokens) return;
    this.tokens = length;
    this.lengths?.dispose();
    this.lengths = null;
  }
}

function fail(message: string): never {
  throw new Error(`KeyValueCache: ${message}`);
}
