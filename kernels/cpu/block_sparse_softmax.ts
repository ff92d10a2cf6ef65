/** The CPU kernels of the softmax over live blocks: plain loops in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {KernelConfig, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {
  BlockSparseSoftmax,
  type BlockSparseSoftmaxAttrs,
  BlockSparseSoftmaxBackward,
  type BlockSparseSoftmaxBackwardAttrs,
  type BlockSparseSoftmaxBackwardInputs,
  type BlockSparseSoftmaxInputs,
  HIDDEN_BELOW,
} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';

export const cpuBlockSparseSoftmaxKernels: KernelConfig[] = [
  {
    kernelName: BlockSparseSoftmax,
    backendName: 'cpu',
    kernelFunc: (call) => {
      const backend = call.backend as MathBackendCPU;
      const {values} = call.inputs as BlockSparseSoftmaxInputs;
      const attrs = call.attrs as unknown as BlockSparseSoftmaxAttrs;
      return backend.makeTensorInfo(values.shape, 'float32', softmax(read(backend, values), attrs));
    },
  },
  {
    kernelName: BlockSparseSoftmaxBackward,
    backendName: 'cpu',
    kernelFunc: (call) => {
      const backend = call.backend as MathBackendCPU;
      const {probabilities, dProbabilities} = call.inputs as BlockSparseSoftmaxBackwardInputs;
      const {layout} = call.attrs as unknown as BlockSparseSoftmaxBackwardAttrs;
      const result = softmaxBackward(read(backend, probabilities), read(backend, dProbabilities), layout);
      return backend.makeTensorInfo(probabilities.shape, 'float32', result);
    },
  },
];

function read(backend: MathBackendCPU, {dataId}: TensorInfo): TypedArray {
  return backend.data.get(dataId).values as TypedArray;
}

function softmax(values: TypedArray, {layout, scale, causal}: BlockSparseSoftmaxAttrs): Float32Array {
  const out = new Float32Array(values.length);
  forEachRow(layout, values.length, ({row, places, columns}) => {
    const lastVisible = causal ? row + layout.shape[1] - layout.shape[0] : Number.POSITIVE_INFINITY;
    const visible = places.filter((place, i) => columns[i] <= lastVisible && !(values[place] < HIDDEN_BELOW));
    let maximum = Number.NEGATIVE_INFINITY;
    for (const place of visible) maximum = Math.max(maximum, scale * values[place]);
    const weights = visible.map((place) => Math.exp(scale * values[place] - maximum));
    let sum = 0;
    for (const weight of weights) sum += weight;
    visible.forEach((place, i) => {
      out[place] = weights[i] / sum;
    });
  });
  return out;
}

function softmaxBackward(probabilities: TypedArray, dProbabilities: TypedArray, layout: BlockLayout): Float32Array {
  const out = new Float32Array(probabilities.length);
  forEachRow(layout, out.length, ({places}) => {
    let sum = 0;
    for (const place of places) sum += probabilities[place] * dProbabilities[place];
    for (const place of places) out[place] = probabilities[place] * (dProbabilities[place] - sum);
  });
  return out;
}

/** One row of the matrix of one batch entry and head. */
interface Row {
  row: number;
  /** Where the elements of its live blocks lie among the values, and in which columns of the matrix. */
  places: number[];
  columns: number[];
}

/** Rows without live blocks have no values, and are left out. */
function forEachRow(layout: BlockLayout, size: number, visit: (row: Row) => void): void {
  const {nnz, heads, rowBlocks, rowOffsets, colIndices} = layout;
  const [rowSize, colSize] = layout.blockSize;
  const blockElements = rowSize * colSize;
  for (let firstOfEntry = 0; firstOfEntry < size; firstOfEntry += nnz * blockElements) {
    for (let list = 0; list < heads * rowBlocks; list++) {
      for (let within = 0; within < rowSize && rowOffsets[list] < rowOffsets[list + 1]; within++) {
        const row: Row = {row: (list % rowBlocks) * rowSize + within, places: [], columns: []};
        for (let block = rowOffsets[list]; block < rowOffsets[list + 1]; block++) {
          for (let col = 0; col < colSize; col++) {
            row.places.push(firstOfEntry + block * blockElements + within * colSize + col);
            row.columns.push(colIndices[block] * colSize + col);
          }
        }
        visit(row);
      }
    }
  }
}
