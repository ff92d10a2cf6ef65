/**
 * Register tiles: what a fragment makes of a large matrix, side × side quads, one in each render target. With 2 × 2 quads it
 * fetches four texels for sixteen times two multiply-adds, where a single quad takes two for four times two.
 *
 * A matrix made that way lies in side × side textures, its planes: plane (i, j) holds quad (i, j) of every register tile, so
 * that all planes have the same shape, and a register tile lies at the same texel of each.
 */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {AttentionVariant} from './attention_glsl.js';
import type {PackedProgram, Textures} from './packed_program.js';
import {texel, textureAccess} from './textures_glsl.js';

type Side = AttentionVariant['side'];

/** 0, …, side − 1: quads of a register tile, down or across. */
export function lanes(side: Side): number[] {
  return Array.from({length: side}, (_, lane) => lane);
}

/** Joins GLSL for each quad of a register tile; `ij` is the end of its variables' names. */
export function forEachQuad(side: Side, code: (ij: string, i: number, j: number) => string): string {
  return lanes(side)
    .flatMap((i) => lanes(side).map((j) => code(`${i}${j}`, i, j)))
    .join('\n    ');
}

/** The variables of a matrix's planes: inputs of programs, or their targets. */
export function planeNames(name: string, side: Side): string[] {
  return lanes(side).flatMap((i) => lanes(side).map((j) => `${name}${i}${j}`));
}

/** Planes as textures of these variables. */
export function planesNamed(name: string, planes: TensorInfo[] | undefined): Textures {
  if (!planes) return {};
  const names = planeNames(name, planes.length === 1 ? 1 : 2);
  return Object.fromEntries(planes.map((plane, i) => [names[i], plane]));
}

/** The render targets of a program that makes planes. */
export const targetNames = (side: Side) => planeNames('target', side);

/** GLSL that writes a quad to each target. */
export function setTargets(side: Side, quad: (ij: string, i: number, j: number) => string): string {
  return forEachQuad(side, (ij, i, j) => `target${ij} = ${quad(ij, i, j)};`);
}

/** GLSL of how many register tiles cover so many rows or columns. */
export function registerTileFunction(side: Side): string {
  return `
int registerTiles(int size) {
  return (size + ${2 * side - 1}) / ${2 * side};
}`;
}

/** The shape of the planes of matrices [.., rows, columns]; a single plane is the matrix itself. */
export function planeShape(shape: number[], side: Side): number[] {
  if (side === 1) return shape;
  const ofPlane = (size: number) => 2 * Math.ceil(size / (2 * side));
  return [...shape.slice(0, -2), ...shape.slice(-2).map(ofPlane)];
}

/** GLSL of what a plane has at texel `at`, a place; which plane, (i, j), is found out at run time. */
export function planeTexel(side: Side, name: string, i: string, j: string, at: string): string {
  const fetch = (ij: string) => `texelFetch(${name}${ij}, ${at}, 0)`;
  if (side === 1) return fetch('00');
  const ofRow = (row: number) => `((${j}) == 0 ? ${fetch(`${row}0`)} : ${fetch(`${row}1`)})`;
  return `((${i}) == 0 ? ${ofRow(0)} : ${ofRow(1)})`;
}

/**
 * Puts planes of matrices [.., rows, columns] together, in one texture, and adds a bias [columns] to each row where there is
 * one. The sides of a matrix are names of uniforms.
 */
export function assembleProgram(side: Side, rows: string, columns: string, hasBias = false): PackedProgram {
  return {
    inputs: [...planeNames('plane', side), ...(hasBias ? ['bias'] : [])],
    code: `
${textureAccess}
${registerTileFunction(side)}
void main() {
  int index = outputTexel();
  int rowPair = index / pairs(${columns});
  ivec2 quad = ivec2(rowPair % pairs(${rows}), index % pairs(${columns}));
  int tileRow = rowPair / pairs(${rows}) * registerTiles(${rows}) + quad.x / ${side};
  ivec2 at = place(tileRow * registerTiles(${columns}) + quad.y / ${side}, packedWidth(plane00TexShape));
  vec4 result = ${planeTexel(side, 'plane', `quad.x % ${side}`, `quad.y % ${side}`, 'at')};
  ${hasBias ? `result += ${texel('bias', 'quad.y')}.xyxy;` : ''}
  // Padding is 0, on which tfjs's products rely.
  setOutput(mix(result, vec4(0.0), outside(quad.x, quad.y, ${rows}, ${columns})));
}`,
  };
}
