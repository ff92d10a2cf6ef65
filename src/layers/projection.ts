/** A dense map of tokens, with a low-rank addition where it is fine-tuned by LoRA. */
import {add, matMul, mul, reshape, type Tensor1D, type Tensor2D, tidy} from '@tensorflow/tfjs-core';
import type {LayerVariable, layers} from '@tensorflow/tfjs-layers';
import {denseMatMul} from '../ops/dense_mat_mul.js';
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
    return this.product(x, this.readBias());
  }

  /** The same without the bias, for those who add it on their way. */
  applyWithoutBias(x: Tensor2D): Tensor2D {
    return this.product(x, undefined);
  }

  readBias(): Tensor1D | undefined {
    return this.bias && (reshapeIfNeeded(this.bias.read(), [this.outputs]) as Tensor1D);
  }

  private product(x: Tensor2D, bias: Tensor1D | undefined): Tensor2D {
    const w = reshapeIfNeeded(this.kernel.read(), [this.inputs, this.outputs]) as Tensor2D;
    const product = denseMatMul(x, w, {bias});
    if (!this.lowRank) return product;
    const {a, b, scale} = this.lowRank;
    const inRank: Tensor2D = mul(denseMatMul(x, a.read() as Tensor2D), scale);
    return add(product, denseMatMul(inRank, b.read() as Tensor2D));
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

/**
 * That of a `tf.layers.dense` that was built and has no activation. The layer itself, applied to three axes, copies its
 * kernel by a transposition, and that kernel's gradient by another.
 */
export function projectionOfDense(dense: layers.Layer): Projection {
  const [kernel, bias] = ['kernel', 'bias'].map((name) =>
    dense.weights.find(({originalName}) => originalName.endsWith(`/${name}`)),
  );
  const [inputs, outputs] = (kernel as LayerVariable).shape as number[];
  return new Projection(inputs, outputs, kernel as LayerVariable, bias, undefined);
}
