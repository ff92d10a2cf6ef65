/** The buffer `liveTiles` of a call, which its layout keeps; see live_tiles_wgsl.ts. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type KernelFunc, sum, type Tensor, type TensorInfo, tidy, where} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {asTensor} from '../fallback/as_tensor.js';
import {liveTilesTable, type ScoreTiles} from '../layout_tables.js';
import type {TileArea} from './live_tiles_wgsl.js';
import {type CutRows, cutRowsOf} from './long_rows.js';

type RowsAre = ScoreTiles['rowsAre'];

function scoreTiles({queries, keys}: AttentionSizes, rowsAre: RowsAre, {rows, columns}: TileArea): ScoreTiles {
  const [down, across] = rowsAre === 'queries' ? [queries, keys] : [keys, queries];
  return {rowsAre, rows, columns, rowTiles: Math.ceil(down / rows), columnTiles: Math.ceil(across / columns)};
}

/** The live tiles of a kernel with this tile; undefined where the call has no layout. */
export function liveTilesOf(
  backend: WebGPUBackend,
  {layout}: FlashAttentionAttrs,
  sizes: AttentionSizes,
  rowsAre: RowsAre,
  area: TileArea,
): TensorInfo | undefined {
  if (!layout) return undefined;
  const tiles = scoreTiles(sizes, rowsAre, area);
  return layout.indexBuffer(backend, `live tiles ${JSON.stringify(tiles)}`, () => {
    const values = liveTilesTable(layout, tiles);
    return {shape: [values.length], values};
  });
}

/** The same where single rows are so long that they are cut, with the table of that; undefined where none is. */
export function cutLiveTilesOf(
  backend: WebGPUBackend,
  {layout}: FlashAttentionAttrs,
  sizes: AttentionSizes,
  rowsAre: RowsAre,
  area: TileArea,
): {cut: CutRows; liveTiles: TensorInfo} | undefined {
  if (!layout) return undefined;
  const tiles = scoreTiles(sizes, rowsAre, area);
  const name = JSON.stringify(tiles);
  const cut = cutRowsOf(layout, name, tiles.rowTiles, () => liveTilesTable(layout, tiles));
  if (!cut) return undefined;
  const liveTiles = layout.indexBuffer(backend, `live tiles ${name} cut into ${cut.turns}`, () => {
    const values = Int32Array.from([...liveTilesTable(layout, tiles), ...cut.table]);
    return {shape: [values.length], values};
  });
  return {cut, liveTiles};
}

/** The score that a hidden key gets through the bias; below HIDDEN_BELOW. */
const HIDDEN_BIAS = -3e38;

/**
 * With bias, mask and layout, kernels need 9 storage buffers. On devices that have the default 8, the mask becomes part of
 * the bias, at the price of a bias that may be larger.
 */
export function withinBindings(kernel: KernelFunc): KernelFunc {
  return (call) => {
    const {bias, mask, ...others} = call.inputs as FlashAttentionInputs;
    const {layout} = call.attrs as unknown as FlashAttentionAttrs;
    const {device} = call.backend as WebGPUBackend;
    if (!bias || !mask || !layout || device.limits.maxStorageBuffersPerShaderStage > 8) return kernel(call);
    const folded = tidy(() => where(asTensor(mask), asTensor(bias), HIDDEN_BIAS) as Tensor);
    try {
      return kernel({...call, inputs: {...others, bias: folded}});
    } finally {
      folded.dispose();
    }
  };
}

/** The gradient of a bias from that of one that {@link withinBindings} may have made larger. */
export function summedToBias(kernel: KernelFunc): KernelFunc {
  return (call) => {
    const gradient = asTensor(kernel(call) as TensorInfo);
    const {shape} = call.inputs.bias as TensorInfo;
    const axes = gradient.shape.flatMap((size, axis) => (size === shape[axis] ? [] : [axis]));
    if (axes.length === 0) return gradient;
    const summed: Tensor = sum(gradient, axes, true);
    gradient.dispose();
    return summed;
  };
}
