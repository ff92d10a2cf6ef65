/** How a budget of parameters is shared between the block butterfly and the low-rank term. */
import {BlockLayout} from '../sparsity/block_layout.js';
import {type BlockSize, blockSizes} from '../sparsity/block_patterns.js';

/** The kernel that a budget is for. */
export interface BudgetedKernel {
  inputs: number;
  units: number;
  blockSize: BlockSize;
  globalSize: number;
  /** The budget, as a part of the inputs·units parameters of a dense kernel. */
  density: number;
}

export interface PixelflySizes {
  butterflySize: number;
  factors: number;
  rank: number;
}

const RANK_MULTIPLE = 8;

/**
 * The low-rank term gets at most a third of the budget, and at least a quarter where an integer rank allows: the largest
 * multiple of 8 in that range, or else the largest rank. The butterfly gets the rest: the one with the most live blocks
 * that fits and, of several, the one with the most bands, which reaches farthest.
 *
 * @throws Error if the budget has no room for rank 1 or for any butterfly.
 */
export function sizesWithinBudget(kernel: BudgetedKernel): PixelflySizes {
  const sizes = sizesThatFit(kernel);
  if (sizes) return sizes;
  const {inputs, units, density} = kernel;
  throw new Error(
    `pixelflyDense: density must leave room for a low-rank term of rank 1, in a third of the budget, and for a butterfly; ` +
      `got ${density} of a kernel [${inputs}, ${units}], ${Math.floor(density * inputs * units)} parameters, in blocks of ` +
      `${blockSizes(kernel.blockSize).join(' × ')}.`,
  );
}

/** {@link sizesWithinBudget}, or undefined where the budget is too small. */
export function sizesThatFit(kernel: BudgetedKernel): PixelflySizes | undefined {
  const {inputs, units, density} = kernel;
  const budget = density * inputs * units;
  const rank = rankWithin(budget / (inputs + units));
  const butterfly = butterflyWithin(budget - rank * (inputs + units), kernel);
  return rank > 0 && butterfly ? {rank, ...butterfly} : undefined;
}

/** @param ranks how many ranks the whole budget would pay for. */
function rankWithin(ranks: number): number {
  const most = Math.floor(ranks / 3);
  const multiple = most - (most % RANK_MULTIPLE);
  return multiple >= ranks / 4 ? multiple : most;
}

function butterflyWithin(
  parameters: number,
  kernel: BudgetedKernel,
): Pick<PixelflySizes, 'butterflySize' | 'factors'> | undefined {
  const [rowSize, colSize] = blockSizes(kernel.blockSize);
  const mostBands = Math.min(Math.ceil(kernel.inputs / rowSize), Math.ceil(kernel.units / colSize));
  let best: {nnz: number; butterflySize: number; factors: number} | undefined;
  for (let butterflySize = 1; butterflySize <= mostBands; butterflySize *= 2) {
    for (let factors = 0; 2 ** factors <= butterflySize; factors++) {
      const {nnz} = butterflyLayout(kernel, {butterflySize, factors});
      const fits = nnz * rowSize * colSize <= parameters;
      if (fits && nnz >= (best?.nnz ?? 0)) best = {nnz, butterflySize, factors};
    }
  }
  return best && {butterflySize: best.butterflySize, factors: best.factors};
}

/** The butterfly of a kernel [inputs, units], each rounded up to whole blocks. */
export function butterflyLayout(
  {inputs, units, blockSize, globalSize}: Omit<BudgetedKernel, 'density'>,
  {butterflySize, factors}: Pick<PixelflySizes, 'butterflySize' | 'factors'>,
): BlockLayout {
  const [rowSize, colSize] = blockSizes(blockSize);
  const rows = Math.ceil(inputs / rowSize) * rowSize;
  const cols = Math.ceil(units / colSize) * colSize;
  return BlockLayout.flatButterfly({rows, cols, blockSize, butterflySize, factors, globalSize});
}
