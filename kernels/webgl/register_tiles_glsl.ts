/**
 * Register tiles: what a fragment makes of a large matrix, a few quads down and across, one in each render target. With 2 × 2
 * quads it fetches eight texels for 64 multiply-adds of a product, with 4 × 2 six for as many, where a single quad takes
 * sixteen.
 *
 * A matrix made that way lies in as many textures, its planes: plane (i, j) holds quad (i, j) of every register tile, so
 * that all planes have the same shape, and a register tile lies at the same texel of each.
 */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {PackedProgram, Textures} from './packed_program.js';
import {textureAccess} from './textures_glsl.js';

/** How many quads it has. */
export interface RegisterTile {
  down: number;
  across: number;
}

/** From the largest on; the last needs no render targets beside the first. */
export const REGISTER_TILES: readonly RegisterTile[] = [
  {down: 4, across: 2},
  {down: 2, across: 2},
  {down: 1, across: 1},
];

export function quadCount({down, across}: RegisterTile): number {
  return down * across;
}

/** That of a transposed matrix. */
export function transposed({down, across}: RegisterTile): RegisterTile {
  return {down: across, across: down};
}

/** A matrix in planes, row by row of the register tile. */
export interface Planes {
  tile: RegisterTile;
  textures: TensorInfo[];
}

/** A program that makes planes, one in each render target: the textures it reads, by variable name, and its GLSL. */
export interface PlanesProgram {
  inputs: readonly string[];
  tile: RegisterTile;
  code: string;
}

/** 0, …, count − 1: quads of a register tile, down or across. */
export function lanes(count: number): number[] {
  return Array.from({length: count}, (_, lane) => lane);
}

/** Joins GLSL for each quad of a register tile; `ij` is the end of its variables' names. */
export function forEachQuad({down, across}: RegisterTile, code: (ij: string, i: number, j: number) => string): string {
  return lanes(down)
    .flatMap((i) => lanes(across).map((j) => code(`${i}${j}`, i, j)))
    .join('\n    ');
}

/** The variables of a matrix's planes: inputs of programs, or their targets. */
export function planeNames(name: string, {down, across}: RegisterTile): string[] {
  return lanes(down).flatMap((i) => lanes(across).map((j) => `${name}${i}${j}`));
}

/** Planes as textures of these variables. */
export function planesNamed(name: string, planes: Planes | undefined): Textures {
  if (!planes) return {};
  const names = planeNames(name, planes.tile);
  return Object.fromEntries(planes.textures.map((plane, i) => [names[i], plane]));
}

/** The render targets of a program that makes planes. */
export const targetNames = (tile: RegisterTile) => planeNames('target', tile);

/** GLSL that writes a quad to each target. */
export function setTargets(tile: RegisterTile, quad: (ij: string, i: number, j: number) => string): string {
  return forEachQuad(tile, (ij, i, j) => `target${ij} = ${quad(ij, i, j)};`);
}

/** GLSL of how many register tiles, so many quads long, cover so many rows or columns. */
export const registerTileFunction = `
int registerTiles(int size, int quads) {
  return (size + 2 * quads - 1) / (2 * quads);
}`;

/** The shape of the planes of matrices [.., rows, columns]; a single plane is the matrix itself. */
export function planeShape(shape: number[], tile: RegisterTile): number[] {
  if (quadCount(tile) === 1) return shape;
  const [rows, columns] = shape.slice(-2);
  const ofPlane = (size: number, quads: number) => 2 * Math.ceil(size / (2 * quads));
  return [...shape.slice(0, -2), ofPlane(rows, tile.down), ofPlane(columns, tile.across)];
}

/** GLSL that chooses by an integer at run time. */
function choose(index: string, choices: string[]): string {
  const last = choices.length - 1;
  return choices
    .slice(0, last)
    .reduceRight((otherwise, choice, i) => `((${index}) == ${i} ? ${choice} : ${otherwise})`, choices[last]);
}

/** GLSL of what a plane has at texel `at`, a place; which plane, (i, j), is found out at run time. */
export function planeTexel({down, across}: RegisterTile, name: string, i: string, j: string, at: string): string {
  const ofRow = (row: number) =>
    choose(
      j,
      lanes(across).map((column) => `texelFetch(${name}${row}${column}, ${at}, 0)`),
    );
  return choose(i, lanes(down).map(ofRow));
}

/**
 * How planes of results [.., rows, columns] are put together, in one texture. The quads across a register tile of a result
 * lie apart, as many columns of quads as there are register tiles, so that fragments beside one another fetch what lies
 * side by side.
 */
export interface Assembly {
  tile: RegisterTile;
  /** Names of uniforms. */
  rows: string;
  columns: string;
  /** The rows that the planes hold where these are not all, by uniforms; the others become `otherwise`. */
  part?: {firstRow: string; rows: string; otherwise: string};
  /** Textures that `finish` reads. */
  inputs?: readonly string[];
  /** GLSL statements on `result`, of texel `index`, which is quad (x, y) of its matrix and of pair `rowPair` of all rows. */
  finish?: string;
}

/** Reads planes called `plane`. */
export function assembleProgram({tile, rows, columns, part, inputs = [], finish = ''}: Assembly): PackedProgram {
  const {down, across} = tile;
  const findPart = part
    ? `
  int planeRow = quad.x - ${part.firstRow} / 2;
  if (planeRow < 0 || planeRow >= pairs(${part.rows})) { setOutput(${part.otherwise}); return; }`
    : 'int planeRow = quad.x;';
  return {
    inputs: [...planeNames('plane', tile), ...inputs],
    code: `
${textureAccess}
${registerTileFunction}
void main() {
  int index = outputTexel();
  int rowPair = index / pairs(${columns});
  ivec2 quad = ivec2(rowPair % pairs(${rows}), index % pairs(${columns}));
  ${findPart}
  int tileRow = rowPair / pairs(${rows}) * registerTiles(${part?.rows ?? rows}, ${down}) + planeRow / ${down};
  int tilesAcross = registerTiles(${columns}, ${across});
  ivec2 at = place(tileRow * tilesAcross + quad.y % tilesAcross, packedWidth(plane00TexShape));
  vec4 result = ${planeTexel(tile, 'plane', `planeRow % ${down}`, 'quad.y / tilesAcross', 'at')};
  ${finish}
  // Padding is 0, on which tfjs's products rely.
  setOutput(mix(result, vec4(0.0), outside(quad.x, quad.y, ${rows}, ${columns})));
}`,
  };
}
