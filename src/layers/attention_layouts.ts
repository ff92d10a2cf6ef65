/** Block layouts of attention layers: given, or made by a pattern for the lengths that come. */
import {type Tensor, tensor} from '@tensorflow/tfjs-core';
import {BlockLayout, type BlockLayoutJson} from '../sparsity/block_layout.js';
import type {ButterflyAttentionOptions, LocalGlobalOptions, SlidingWindowOptions} from '../sparsity/block_patterns.js';

/** A pattern of live blocks by name, with the options of the static method of `BlockLayout` that makes it. */
export type AttentionPattern =
  | ({pattern: 'butterfly'} & ButterflyAttentionOptions)
  | ({pattern: 'slidingWindow'} & SlidingWindowOptions)
  | ({pattern: 'localGlobal'} & LocalGlobalOptions);

type Lengths = readonly [queries: number, keys: number];

const patternMakers = {
  butterfly: BlockLayout.butterflyAttention,
  slidingWindow: BlockLayout.slidingWindow,
  localGlobal: BlockLayout.localGlobal,
} as {[name: string]: (lengths: Lengths, options: object) => BlockLayout};

/** The layouts of one attention layer. */
export class AttentionLayouts {
  private readonly byLengths = new Map<string, BlockLayout>();
  private readonly source: BlockLayout | AttentionPattern;

  /** @param causal what patterns take for their option of this name. */
  constructor(
    source: BlockLayout | BlockLayoutJson | AttentionPattern,
    private readonly causal: boolean,
  ) {
    this.source = source instanceof BlockLayout || 'pattern' in source ? source : BlockLayout.fromJSON(source);
    if ('pattern' in this.source && !Object.hasOwn(patternMakers, this.source.pattern)) {
      const names = Object.keys(patternMakers).join(', ');
      throw new Error(`flashMultiHeadAttention: layout.pattern must be one of ${names}, got '${this.source.pattern}'.`);
    }
  }

  /** The layout of attention from so many queries to so many keys. */
  forLengths(lengths: Lengths): BlockLayout {
    if (this.source instanceof BlockLayout) return this.source;
    const key = lengths.join(' × ');
    let layout = this.byLengths.get(key);
    if (!layout) {
      const {pattern, ...options} = this.source;
      layout = patternMakers[pattern](lengths, {causal: this.causal, ...options});
      this.byLengths.set(key, layout);
    }
    return layout;
  }

  /** Frees the index buffers of all layouts. */
  dispose(): void {
    if (this.source instanceof BlockLayout) this.source.dispose();
    for (const layout of this.byLengths.values()) layout.dispose();
    this.byLengths.clear();
  }

  toJSON(): BlockLayoutJson | AttentionPattern {
    return this.source instanceof BlockLayout ? this.source.toJSON() : this.source;
  }
}

/** Which of the first `keys` keys the queries from `first` on see in the layout: bool [1, heads or 1, queries, keys]. */
export function layoutMask(layout: BlockLayout, [queries, keys]: Lengths, first = 0): Tensor {
  const {heads, blockSize, shape} = layout;
  if (first + queries > shape[0] || keys > shape[1]) {
    throw new Error(
      `flashMultiHeadAttention: layout must cover queries up to ${first + queries} and ${keys} keys, got ` +
        `${shape.join(' × ')}.`,
    );
  }
  const visible = new Uint8Array(heads * queries * keys);
  for (let head = 0; head < heads; head++) {
    for (let query = 0; query < queries; query++) {
      const live = layout.liveColumns(head, Math.floor((first + query) / blockSize[0]));
      const start = (head * queries + query) * keys;
      for (let key = 0; key < keys; key++) visible[start + key] = live[Math.floor(key / blockSize[1])];
    }
  }
  return tensor(visible, [1, heads, queries, keys], 'bool');
}
