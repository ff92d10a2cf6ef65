/**
 * Tiles of the WebGPU kernels to be tried one after the other, as the option `--tiles` lists them:
 *
 *     forward=64x64x4x4x4352,32x64x4x4x2304;keyValueGradient=32x64x4x4x1280
 *
 * tries two tiles of the forward kernel and one of the kernel for dK and dV. The numbers are rows, columns, threadRows,
 * threadColumns and columnFloats of a `TileSizes`; `/planar` behind them asks for the planar layout. For the kernels of
 * block-sparse products, `sparse` and `sampled`, they are bound, free, threadRows, threadColumns and inner of `productTable`;
 * for that of dense ones, `dense`, the last one is inner.
 */
import type {TiledKernel, TileSizes} from '../kernels/webgpu/tile_sizes.js';
import type {BenchCase} from './cases.js';

export type SweptKernel = TiledKernel | 'sparse' | 'sampled' | 'dense';

/** One tile of one kernel. The other kernels of the case keep theirs. */
export interface TileTrial {
  kernel: SweptKernel;
  tile: TileSizes;
}

const kernels: readonly SweptKernel[] = [
  'forward',
  'queryGradient',
  'keyValueGradient',
  'biasGradient',
  'sparse',
  'sampled',
  'dense',
];

export function readTiles(text: string): TileTrial[] {
  return text.split(';').flatMap((part) => {
    const [name, list = ''] = part.split('=');
    const kernel = kernels.find((known) => known === name);
    if (!kernel) throw new Error(`--tiles knows the kernels ${kernels.join(', ')}, not '${name}'.`);
    return list.split(',').map((words) => ({kernel, tile: readTile(words)}));
  });
}

function readTile(text: string): TileSizes {
  const [numbers, layout = 'packed'] = text.split('/');
  const [rows, columns, threadRows, threadColumns, columnFloats] = numbers.split('x').map(Number);
  if (!(rows > 0 && columns > 0 && threadRows > 0 && threadColumns > 0 && columnFloats > 0)) {
    throw new Error(
      `--tiles takes rows×columns×threadRows×threadColumns×columnFloats, as in 64x64x4x4x4352, not '${text}'.`,
    );
  }
  if (layout !== 'packed' && layout !== 'planar') throw new Error(`--tiles takes packed or planar, not '${layout}'.`);
  return {rows, columns, threadRows, threadColumns, columnFloats, layout};
}

/** For example `keyValueGradient 32x64x4x4x1280`; empty where the case takes the tiles of the package. */
export function tilesName({tiles = {}}: BenchCase): string {
  return Object.entries(tiles)
    .map(([kernel, {rows, columns, threadRows, threadColumns, columnFloats, layout}]) => [
      kernel,
      [rows, columns, threadRows, threadColumns, columnFloats].join('x'),
      layout === 'planar' ? layout : '',
    ])
    .map((words) => words.filter(Boolean).join(' '))
    .join(', ');
}
