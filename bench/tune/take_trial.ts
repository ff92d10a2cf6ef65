/** Puts the sizes that are to be tried in the place of the package's, in the page that measures them. */
import {fewQueriesShapes} from '../../kernels/webgpu/few_queries_tiles.js';
import {halfShapes} from '../../kernels/webgpu/half_tiles.js';
import {outerTileChoice, outerTileTable} from '../../kernels/webgpu/outer_attention_tiles.js';
import {
  denseProductTable,
  layoutFor,
  matMulTable,
  productTable,
  productTile,
  simdWidth,
  tileTable,
} from '../../kernels/webgpu/tile_sizes.js';
import type {RowKernel} from '../../kernels/webgpu/tiled_work.js';
import type {TileTrial, TunedKernel} from './tile_trial.js';

/** Each page measures one case, so what is changed here is never restored. */
export function takeTrial(device: GPUDevice, {kernel, sizes}: TileTrial): void {
  takers[kernel](sizes as never, simdWidth(device));
}

type Width = ReturnType<typeof simdWidth>;
type Takers = {[Kernel in TunedKernel]: (sizes: never, width: Width) => void};

type TileNumbers = Omit<(typeof tileTable)['wide']['forward'][number], 'layout'>;
const takeTile = (kernel: keyof (typeof tileTable)['wide']) => (sizes: TileNumbers, width: Width) => {
  tileTable[width][kernel] = [{...sizes, layout: layoutFor(width)}];
};

type ProductNumbers = (typeof productTable)['wide']['sparse'][number];
const takeProduct = (kernel: 'sparse' | 'sampled') => (sizes: ProductNumbers, width: Width) => {
  productTable[width][kernel] = [sizes];
};

type DenseNumbers = Omit<(typeof denseProductTable)['wide'][number], 'layout' | 'columnFloats'>;
const tileOf = ({rows, columns, threadRows, threadColumns, inner}: DenseNumbers, width: Width) =>
  productTile(layoutFor(width), [rows, columns], [threadRows, threadColumns], inner);

interface OuterNumbers {
  rows: number;
  columns: number;
  threadColumns: number;
  innerColumns: number;
  loadsPastEnd: number;
}
const takeOuter =
  (kernel: RowKernel) =>
  ({rows, columns, threadColumns, innerColumns, loadsPastEnd}: OuterNumbers) => {
    const choice = outerTileChoice(rows, columns, threadColumns, {innerColumns, loadsPastEnd: loadsPastEnd > 0});
    outerTileTable[kernel] = [{mostDepth: Infinity, choices: [choice]}];
  };

const takeHalf = (kernel: RowKernel) => (sizes: (typeof halfShapes)['forward']) => {
  halfShapes[kernel] = sizes;
};

const takers: Takers = {
  forward: takeTile('forward'),
  queryGradient: takeTile('queryGradient'),
  keyValueGradient: takeTile('keyValueGradient'),
  biasGradient: takeTile('biasGradient'),
  sparse: takeProduct('sparse'),
  sampled: takeProduct('sampled'),
  dense: (sizes: DenseNumbers, width) => {
    matMulTable[width].tiles = [tileOf(sizes, width)];
  },
  blockDiagonal: (sizes: DenseNumbers, width) => {
    denseProductTable[width] = [tileOf(sizes, width)];
  },
  outerForward: takeOuter('forward'),
  outerQueryGradient: takeOuter('queryGradient'),
  outerKeyValueGradient: takeOuter('keyValueGradient'),
  halfForward: takeHalf('forward'),
  halfQueryGradient: takeHalf('queryGradient'),
  halfKeyValueGradient: takeHalf('keyValueGradient'),
  fewQueries: (sizes: (typeof fewQueriesShapes)['wide'], width) => {
    fewQueriesShapes[width] = sizes;
  },
};
