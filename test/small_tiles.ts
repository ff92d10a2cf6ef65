/**
 * A sample of the grid runs with the smallest attention tiles of software GPUs, whose kernels SwiftShader compiles in a third
 * of the time. What software GPUs do get has specs of its own ({@link softwareTiles}), as has what GPUs get.
 */
import {type TiledKernel, tileTable} from '../kernels/webgpu/tile_sizes.js';

declare const FULL_GRID: boolean;

/** The tiles that software GPUs get. */
export const softwareTiles = tileTable.narrow;

if (!FULL_GRID) {
  const smallest = (kernel: TiledKernel) => softwareTiles[kernel].slice(-1);
  tileTable.narrow = {
    forward: smallest('forward'),
    queryGradient: smallest('queryGradient'),
    keyValueGradient: smallest('keyValueGradient'),
    biasGradient: smallest('biasGradient'),
  };
}
