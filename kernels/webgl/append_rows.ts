/**
 * The WebGL kernel that writes rows into a tensor. It draws into the texels of the destination that the rows take, and
 * into no others. A row [H, D] is a number of whole texels, side by side in the order of textures_glsl.ts.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {type BackendValues, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {appendRowsInPlace, rowRanges, sharing} from '../append_rows_kernels.js';
import {drawTexels, packedCopy} from './texel_copies.js';
import {assertTexturesFit} from './texture_limits.js';

export const webglAppendRows = appendRowsInPlace(
  'webgl',
  (inputs, attrs, kernelBackend) => {
    const backend = kernelBackend as MathBackendWebGL;
    const {destination, rows} = inputs;
    const [heads, depth] = rows.shape.slice(2);
    const texelsPerRow = Math.ceil(heads / 2) * Math.ceil(depth / 2);
    const packedRows = packedCopy(backend, rows);
    drawTexels(backend, packedRows, destination, rowRanges(inputs, attrs, texelsPerRow));
    backend.disposeIntermediateTensorInfo(packedRows);
    // What an earlier read has left on the host is out of date.
    const data: {values?: BackendValues | null} = backend.texData.get(destination.dataId);
    data.values = null;
  },
  (destination, kernelBackend) => {
    const backend = kernelBackend as MathBackendWebGL;
    assertTexturesFit('appendRows', {'the destination': destination.shape});
    return isPacked(backend, destination) ? sharing(destination, backend) : packedCopy(backend, destination);
  },
);

/** Whether the tensor's texture is packed as its shape says; one that has no texture yet gets such a one. */
function isPacked(backend: MathBackendWebGL, {dataId, shape}: TensorInfo): boolean {
  const data = backend.texData.get(dataId);
  if (!data.texture) {
    data.isPacked = true;
    data.shape = shape;
    backend.uploadToGPU(dataId);
  }
  return Boolean(data.isPacked) && util.arraysEqual(data.shape, shape);
}
