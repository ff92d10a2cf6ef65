/** The program of a dense product: a fragment sums up a register tile of 2 × 2 quads (register_tiles_glsl.ts). */
import type {DenseMatMulAttrs} from '../../src/kernel_names.js';
import {componentsOf} from './block_sparse_programs.js';
import {
  forEachQuad,
  lanes,
  type PlanesProgram,
  type RegisterTile,
  registerTileFunction,
  setTargets,
} from './register_tiles_glsl.js';
import {texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Of the product, and what lies between a and b. */
export const denseMatMulUniforms = [
  {name: 'rows', type: 'int'},
  {name: 'columns', type: 'int'},
  {name: 'inner', type: 'int'},
] as const;

/** Larger ones leave small products too few fragments. */
export const PRODUCT_TILE: RegisterTile = {down: 2, across: 2};

/** Reads `matrixA` and `matrixB`, as tfjs calls a variable of its own `b`. */
export function denseMatMulProgram({transposeA, transposeB}: DenseMatMulAttrs): PlanesProgram {
  /** Along the inner axis, from the quad with this number on the other. */
  const walk = (texture: string, name: string, quad: string, side: string, innerIsColumn: boolean) =>
    innerIsColumn
      ? texelWalk(texture, name, `(${quad}) * pairs(inner)`, '1')
      : texelWalk(texture, name, quad, `pairs(${side})`);
  const rowWalks = lanes(PRODUCT_TILE.down).map((i) => walk('matrixA', `a${i}`, `row + ${i}`, 'rows', !transposeA));
  const columnWalks = lanes(PRODUCT_TILE.across).map((j) =>
    walk('matrixB', `b${j}`, `column + ${j} * tilesAcross`, 'columns', transposeB),
  );
  const walks = [...rowWalks, ...columnWalks];
  const fetchAll = [
    ...rowWalks.map(({fetch}, i) => `vec4 x${i} = ${fetch};`),
    ...columnWalks.map(({fetch}, j) => `vec4 y${j} = ${fetch};`),
  ].join(' ');
  const [firstOfA, secondOfA] = componentsOf({operand: 'matrixA', transposed: transposeA});
  const [firstOfB, secondOfB] = componentsOf({operand: 'matrixB', transposed: transposeB});
  const first = (i: number, j: number) => `x${i}.${firstOfA} * y${j}.${firstOfB}`;
  const second = (i: number, j: number) => `x${i}.${secondOfA} * y${j}.${secondOfB}`;
  return {
    inputs: ['matrixA', 'matrixB'],
    tile: PRODUCT_TILE,
    code: `
${textureAccess}
${registerTileFunction}
void main() {
  int index = outputTexel();
  int tilesAcross = registerTiles(columns, ${PRODUCT_TILE.across});
  int row = ${PRODUCT_TILE.down} * (index / tilesAcross);
  int column = index % tilesAcross;
  ${forEachQuad(PRODUCT_TILE, (ij) => `vec4 sum${ij} = vec4(0.0);`)}
  ${walks.map(({declare}) => declare).join('\n  ')}
  ${walkTogether(
    walks,
    'inner / 2',
    `${fetchAll}
      ${forEachQuad(PRODUCT_TILE, (ij, i, j) => `sum${ij} += ${first(i, j)} + ${second(i, j)};`)}`,
  )}
  if (inner % 2 == 1) {
    // The second half of the last quads is padding, whose content nobody vouches for.
    ${fetchAll}
    ${forEachQuad(PRODUCT_TILE, (ij, i, j) => `sum${ij} += ${first(i, j)};`)}
  }
  ${setTargets(PRODUCT_TILE, (ij) => `sum${ij}`)}
}`,
  };
}
