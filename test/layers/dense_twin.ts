/** The layer pixelflyDense done with dense matrices: in tfjs's ops, as a layer that trains, and in float64. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import type {PixelflyDense} from '../../src/layers/index.js';

/** The name of a weight without that of its layer. */
export function weightName(weight: tfl.LayerVariable): string {
  return weight.originalName.slice(weight.originalName.lastIndexOf('/') + 1);
}

/** Where the values of live blocks lie in the dense kernel [inputs, units], or −1 for what lies beyond it. */
export function placesInKernel(layer: PixelflyDense, inputs: number, units: number): number[] {
  const {nnz, blockSize, rowIndices, colIndices} = layer.layout;
  const [rowSize, colSize] = blockSize;
  return Array.from({length: nnz * rowSize * colSize}, (_, i) => {
    const block = Math.floor(i / (rowSize * colSize));
    const row = rowIndices[block] * rowSize + (Math.floor(i / colSize) % rowSize);
    const col = colIndices[block] * colSize + (i % colSize);
    return row < inputs && col < units ? row * units + col : -1;
  });
}

/** Values of live blocks as the dense kernel. */
export function spreadKernel(places: number[], values: ArrayLike<number>, size: number): Float32Array {
  const kernel = new Float32Array(size);
  places.forEach((place, i) => {
    if (place >= 0) kernel[place] = values[i];
  });
  return kernel;
}

/** Values of the dense kernel's gradient on live blocks; 0 beyond the kernel. */
export function pickBlocks(places: number[], kernel: ArrayLike<number>): Float64Array {
  return Float64Array.from(places, (place) => (place >= 0 ? kernel[place] : 0));
}

/** Its weights are those of the layer, by name and with the same values, but for the kernel, which is dense and masked. */
export class DenseTwin extends tfl.layers.Layer {
  static readonly className = 'DenseTwin';
  private readonly byName = new Map<string, tfl.LayerVariable>();

  constructor(
    private readonly initial: {name: string; shape: number[]; values: Float32Array}[],
    private readonly mask: Float32Array,
  ) {
    super({});
  }

  override build(): void {
    for (const {name, shape} of this.initial) {
      this.byName.set(name, this.addWeight(name, shape, 'float32', tfl.initializers.zeros()));
    }
    this.built = true;
    tf.tidy(() => this.setWeights(this.initial.map(({values, shape}) => tf.tensor(values, shape))));
  }

  override computeOutputShape(inputShape: tfl.Shape): tfl.Shape {
    return [...inputShape.slice(0, -1), this.initial[0].shape[1]];
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const input = Array.isArray(inputs) ? inputs[0] : inputs;
      const read = (name: string) => this.byName.get(name)?.read() as tf.Tensor2D;
      const kernel = read('sparse_kernel');
      const x = tf.reshape(input, [-1, kernel.shape[0]]) as tf.Tensor2D;
      let y: tf.Tensor = tf.matMul(x, tf.mul(kernel, tf.tensor(this.mask, kernel.shape)));
      if (this.byName.has('low_rank_in')) {
        const lowRank = tf.matMul(tf.matMul(x, read('low_rank_in')), read('low_rank_out'));
        const gate = this.byName.has('gate_kernel')
          ? tf.sigmoid(tf.add(tf.matMul(x, read('gate_kernel')), read('gate_bias')))
          : tf.scalar(0.5);
        y = tf.add(tf.mul(gate, y), tf.mul(tf.sub(1, gate), lowRank));
      }
      if (this.byName.has('bias')) y = tf.add(y, read('bias'));
      return tf.reshape(y, [...input.shape.slice(0, -1), kernel.shape[1]]);
    });
  }
}

type Numbers = ArrayLike<number>;

/** The output, and the gradients of Σ output·outputWeights, by the name of the weight, and of x. */
export interface ExactResult {
  y: Float64Array;
  gradients: Record<string, Float64Array>;
}

/**
 * y = g·(x·W) + (1 − g)·x·V·U + bias in float64.
 *
 * @param weights as in {@link DenseTwin}: the kernel is dense.
 */
export function exactPixelfly(
  {rows, inputs, units, rank}: {rows: number; inputs: number; units: number; rank: number},
  x: Numbers,
  weights: Record<string, Numbers>,
  outputWeights: Numbers,
): ExactResult {
  const {
    sparse_kernel: kernel,
    low_rank_in: v,
    low_rank_out: u,
    gate_kernel: gateKernel,
    gate_bias: gateBias,
    bias,
  } = weights;
  const xT = transposed(x, rows, inputs);
  const sparse = product(x, kernel, [rows, inputs, units]);
  const reduced = v && product(x, v, [rows, inputs, rank]);
  const lowRank = v ? product(reduced, u, [rows, rank, units]) : new Float64Array(rows * units);
  const logits = gateKernel && product(x, gateKernel, [rows, inputs, 1]);
  const gateOf = (row: number) => (gateKernel ? 1 / (1 + Math.exp(-logits[row] - gateBias[0])) : v ? 0.5 : 1);
  const ofGate = (i: number) => gateOf(Math.floor(i / units));
  const y = sparse.map((s, i) => ofGate(i) * s + (1 - ofGate(i)) * lowRank[i] + (bias ? bias[i % units] : 0));

  const dSparse = Float64Array.from(outputWeights, (dy, i) => ofGate(i) * dy);
  const dLowRank = Float64Array.from(outputWeights, (dy, i) => (1 - ofGate(i)) * dy);
  const gradients: Record<string, Float64Array> = {
    sparse_kernel: product(xT, dSparse, [inputs, rows, units]),
    x: product(dSparse, transposed(kernel, inputs, units), [rows, units, inputs]),
  };
  if (bias) gradients.bias = product(new Float64Array(rows).fill(1), outputWeights, [1, rows, units]);
  const addToX = (gradient: Float64Array) => {
    for (let i = 0; i < gradient.length; i++) gradients.x[i] += gradient[i];
  };
  if (v) {
    const dReduced = product(dLowRank, transposed(u, rank, units), [rows, units, rank]);
    gradients.low_rank_in = product(xT, dReduced, [inputs, rows, rank]);
    gradients.low_rank_out = product(transposed(reduced, rows, rank), dLowRank, [rank, rows, units]);
    addToX(product(dReduced, transposed(v, inputs, rank), [rows, rank, inputs]));
  }
  if (gateKernel) {
    const dLogits = new Float64Array(rows);
    for (let i = 0; i < rows * units; i++) {
      const row = Math.floor(i / units);
      dLogits[row] += gateOf(row) * (1 - gateOf(row)) * outputWeights[i] * (sparse[i] - lowRank[i]);
    }
    gradients.gate_kernel = product(xT, dLogits, [inputs, rows, 1]);
    gradients.gate_bias = product(new Float64Array(rows).fill(1), dLogits, [1, rows, 1]);
    addToX(product(dLogits, gateKernel, [rows, 1, inputs]));
  }
  return {y, gradients};
}

function product(a: Numbers, b: Numbers, [rows, inner, columns]: [number, number, number]): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      for (let j = 0; j < columns; j++) out[i * columns + j] += a[i * inner + k] * b[k * columns + j];
    }
  }
  return out;
}

function transposed(matrix: Numbers, rows: number, columns: number): Float64Array {
  return Float64Array.from({length: rows * columns}, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]);
}
