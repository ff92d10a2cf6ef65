import {takeTrial} from '../../bench/tune/take_trial.js';
import {readTrials, sizeNames, type TunedKernel, trialName} from '../../bench/tune/tile_trial.js';
import {fewQueriesShapes} from '../../kernels/webgpu/few_queries_tiles.js';
import {halfShapes} from '../../kernels/webgpu/half_tiles.js';
import {outerTileTable} from '../../kernels/webgpu/outer_attention_tiles.js';
import {denseProductTable, matMulTable, productTable, tileTable} from '../../kernels/webgpu/tile_sizes.js';

const device = (subgroupMaxSize: number) => ({adapterInfo: {subgroupMaxSize}}) as unknown as GPUDevice;

/** Everything that a trial may change. */
const tables = {tileTable, productTable, matMulTable, denseProductTable, outerTileTable, halfShapes, fewQueriesShapes};

/** The tables after a trial on this device; they are as before when it returns. */
function tablesAfter(trial: string, gpu: GPUDevice): typeof tables {
  const before = structuredClone(tables);
  for (const each of readTrials(trial)) takeTrial(gpu, each);
  const after = structuredClone(tables);
  for (const name of Object.keys(tables) as (keyof typeof tables)[]) Object.assign(tables[name], before[name]);
  return after;
}

describe('sizes of kernels to be tried', () => {
  it('are read kernel by kernel, and named as they were written', () => {
    const trials = readTrials('forward=64x64x4x4x4352,32x64x4x4x2304;outerForward=64x128x8x16x0');
    expect(trials.map(trialName)).toEqual([
      'forward 64x64x4x4x4352',
      'forward 32x64x4x4x2304',
      'outerForward 64x128x8x16x0',
    ]);
    expect(trials[2].sizes).toEqual({rows: 64, columns: 128, threadColumns: 8, innerColumns: 16, loadsPastEnd: 0});
    expect(trialName(undefined)).toBe('');
  });

  it('must be of a kernel that there is, and as many as it has', () => {
    expect(() => readTrials('backward=1x2')).toThrowError(/^--tiles knows the kernels forward, .*, not 'backward'\.$/);
    for (const text of ['dense=64x64', 'dense=64x64x8x4x16x1', 'dense=64x64x8x4xa', 'dense=64x64x8x4x0', 'dense']) {
      expect(() => readTrials(text)).toThrowError(
        /^--tiles takes rows×columns×threadRows×threadColumns×inner for dense/,
      );
    }
  });

  it("take the place of the package's, in the table of the device's width only", () => {
    for (const kernel of Object.keys(sizeNames) as TunedKernel[]) {
      const numbers = sizeNames[kernel].map((_, i) => 4 * (i + 1)).join('x');
      const after = tablesAfter(`${kernel}=${numbers}`, device(32));
      expect(after).withContext(kernel).not.toEqual(tables);
      expect(Object.values(after).map((table) => ('narrow' in table ? table.narrow : undefined)))
        .withContext(kernel)
        .toEqual(Object.values(tables).map((table) => ('narrow' in table ? table.narrow : undefined)));
    }
    const [dense] = tablesAfter('dense=64x128x8x8x16', device(32)).matMulTable.wide.tiles;
    expect(dense).toEqual(jasmine.objectContaining({rows: 64, columns: 128, inner: 16, layout: 'packed'}));
    const [software] = tablesAfter('dense=64x128x8x8x16', device(4)).matMulTable.narrow.tiles;
    expect(software).toEqual(jasmine.objectContaining({rows: 64, columns: 128, inner: 16, layout: 'planar'}));
  });
});
