/**
 * Sizes of the WebGPU kernels to be tried one after the other, as the option `--tiles` lists them:
 *
 *     forward=64x64x4x4x4352,32x64x4x4x2304;outerForward=64x64x8x16x0
 *
 * tries two tiles of one kernel and one shape of another. {@link sizeNames} says what the numbers of each kernel are; the
 * records that they stand in for are those of tile_sizes.ts, outer_attention_tiles.ts, half_tiles.ts and few_queries_tiles.ts.
 */

const ofTile = ['rows', 'columns', 'threadRows', 'threadColumns', 'columnFloats'] as const;
const ofProduct = ['bound', 'free', 'threadRows', 'threadColumns', 'inner'] as const;
const ofDense = ['rows', 'columns', 'threadRows', 'threadColumns', 'inner'] as const;
/** The last is 0 or 1. */
const ofOuter = ['rows', 'columns', 'threadColumns', 'innerColumns', 'loadsPastEnd'] as const;
const ofHalves = ['mostSubgroups', 'mostSubgroupsOfDeepHeads', 'enoughWorkgroups'] as const;
const ofFewQueries = [
  'mostQueries',
  'mostRows',
  'threads',
  'mostQuadsPerLane',
  'mostRowQuadsPerLane',
  'enoughInvocations',
  'leastChunkKeys',
] as const;

export const sizeNames = {
  // Attention by tiles, block-sparse products, dense products, those of block-diagonal matrices.
  forward: ofTile,
  queryGradient: ofTile,
  keyValueGradient: ofTile,
  biasGradient: ofTile,
  sparse: ofProduct,
  sampled: ofProduct,
  dense: ofDense,
  blockDiagonal: ofDense,
  // Attention by outer products, in float16, and of few queries.
  outerForward: ofOuter,
  outerQueryGradient: ofOuter,
  outerKeyValueGradient: ofOuter,
  halfForward: ofHalves,
  halfQueryGradient: ofHalves,
  halfKeyValueGradient: ofHalves,
  fewQueries: ofFewQueries,
} as const;

export type TunedKernel = keyof typeof sizeNames;

/** Sizes of one kernel, by name. The other kernels of the case keep theirs. */
export interface TileTrial {
  kernel: TunedKernel;
  sizes: Record<string, number>;
}

export function readTrials(text: string): TileTrial[] {
  return text.split(';').flatMap((part) => {
    const [name, list = ''] = part.split('=');
    if (!Object.hasOwn(sizeNames, name)) {
      throw new Error(`--tiles knows the kernels ${Object.keys(sizeNames).join(', ')}, not '${name}'.`);
    }
    const kernel = name as TunedKernel;
    return list.split(',').map((numbers) => ({kernel, sizes: readSizes(kernel, numbers)}));
  });
}

function readSizes(kernel: TunedKernel, text: string): Record<string, number> {
  const names = sizeNames[kernel];
  const numbers = text.split('x').map(Number);
  const isSize = (number: number, i: number) => number > 0 || (number === 0 && names[i] === 'loadsPastEnd');
  if (numbers.length !== names.length || !numbers.every(isSize)) {
    throw new Error(`--tiles takes ${names.join('×')} for ${kernel}, with an x between them, not '${text}'.`);
  }
  return Object.fromEntries(names.map((name, i) => [name, numbers[i]]));
}

/** For example `keyValueGradient 32x64x4x4x1280`; empty where the case takes the sizes of the package. */
export function trialName(trial: TileTrial | undefined): string {
  return trial ? `${trial.kernel} ${Object.values(trial.sizes).join('x')}` : '';
}
