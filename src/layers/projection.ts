/** A dense map of tokens, with a low-rank addition where it is fine-tuned by LoRA. */
import {add, fused, matMul, mul, reshape, type Tensor2D, tidy} from '@tensorflow/tfjs-core';
import type {LayerVariable} from '@tensorflow/tfjs-layers';
import {reshapeIfNeeded} from '../ops/reshape_if_needed.js';

/** Low-rank factors A [in, r] and B [r, out], and the factor on their product. */
export interface LowRankAddition {
  a: LayerVariable;
  b: LayerVariable;
  scale: number;
}

/**
 * x·W + scale·x·A·B + bias for rows x [n, in], where W has Keras's shape, [in, heads, D] or [heads, D, out], and is read
 * as the matrix [in, out] that it is.
 */
export class Projection {
  constructor(
    private readonly inputs: number,
    private readonly outputs: number,
    readonly kernel: LayerVariable,
    readonly bias: LayerVariable | undefined,
    private lowRank: LowRankAddition | undefined,
  ) {}

  /** [n, in] → [n, out]. */
  apply(x: Tensor2D): Tensor2D {
    const b = reshapeIfNeeded(this.kernel.read(), [this.inputs, this.outputs]) as Tensor2D;
    const bias = this.bias && reshapeIfNeeded(this.bias.read(), [this.outputs]);
    const product = (bias ? fused.matMul({a: x, b, bias}) : matMul(x, b)) as Tensor2D;
    if (!this.lowRank) return product;
    const {a, b: out, scale} = this.lowRank;
    const inRank: Tensor2D = mul(matMul(x, a.read() as Tensor2D), scale);
    return add(product, matMul(inRank, out.read() as Tensor2D));
  }

  /** Adds scale·A·B to the kernel. @returns the factors, which are in use no more. */
  merge(): LayerVariable[] {
    if (!this.lowRank) return [];
    const {a, b, scale} = this.lowRank;
    tidy(() => {
      const product = mul(matMul(a.read() as Tensor2D, b.read() as Tensor2D), scale);
      this.kernel.write(add(this.kernel.read(), reshape(product, this.kernel.shape as number[])));
    });
    this.lowRank = undefined;
    return [a, b];
  }
}
