/**
 * The WebGL kernel that writes rows into a tensor. It draws into the texels of the destination that the rows take, and
 * into no others. A row [H, D] is a number of whole texels, side by side in the order of textures_glsl.ts.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {type BackendValues, util} from '@tensorflow/tfjs-core';
import {appendRowsInPlace, rowRanges, sharing} from '../append_rows_kernels.js';
import {drawTexels, packedCopy, uploadPacked} from './texel_copies.js';
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
    uploadPacked(backend, destination);
    const {isPacked, shape} = backend.texData.get(destination.dataId);
    const isInPlace = isPacked && util.arraysEqual(shape, destination.shape);
    return isInPlace ? sharing(destination, backend) : packedCopy(backend, destination);
  },
);
