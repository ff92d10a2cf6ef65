/** Programs that sum the gradient of the scores to that of a bias which has an entry per key, from chunk to chunk. */
import {type AttentionVariant, headFunctions, headInputs} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {lanes, planeNames, planeTexel} from './register_tiles_glsl.js';
import {texel, texelWalk, walkTogether} from './textures_glsl.js';
import {columnInputs, overTilesOfColumns, overTilesOfRows, rowInputs} from './tiles_glsl.js';

/** GLSL that leaves keys beyond the chunk as they were. */
const keepOtherKeys = (hasPrevious: boolean) => `
  if (key < chunkStart || key >= chunkStart + chunkKeys) {
    setOutput(${hasPrevious ? texel('previous', 'index') : 'vec4(0.0)'});
    return;
  }`;

/** [B, H, 1, Sk]: the sums over all queries. */
export function columnSumsProgram(variant: AttentionVariant, hasPrevious: boolean): PackedProgram {
  const {tile} = variant;
  const {down, across} = tile;
  const firstTile = `seen.x / ${2 * down}`;
  // Sums of few terms, and sums of these, round less than one of many.
  const tilesPerSum = 8 / down;
  const walk = texelWalk('dScores00', 'dScores', `firstTexel + (${firstTile} + done) * tilesAcross`, 'tilesAcross');
  const addQuads = lanes(down)
    .map((i) => `sum += ${planeTexel(tile, 'dScores', String(i), `key / 2 % ${across}`, 'dScoresAt')};`)
    .join(' ');
  return {
    inputs: [
      ...planeNames('dScores', tile),
      ...(hasPrevious ? (['previous'] as const) : []),
      ...columnInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
void main() {
  int index = outputTexel();
  int key = 2 * (index % pairs(keys));
  int headIndex = index / pairs(keys);
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  ${keepOtherKeys(hasPrevious)}
  Head head = makeHead(headIndex);
  vec4 sums = vec4(0.0);
  ${overTilesOfColumns(
    variant,
    2,
    `int tiles = registerTiles(seen.y, ${down}) - ${firstTile};
    for (int done = 0; done < tiles; done += ${tilesPerSum}) {
      vec4 sum = vec4(0.0);
      ${walk.declare}
      ${walkTogether([walk], `min(${tilesPerSum}, tiles - done)`, addQuads)}
      sums += sum;
    }`,
  )}
  setOutput(vec4(sums.xy + sums.zw, 0.0, 0.0));
}`,
  };
}

/** [1|B, 1|H, Sq, Sk]: the sums over the batch and the heads that share the bias. */
export function sharedBiasProgram(variant: AttentionVariant, hasPrevious: boolean): PackedProgram {
  const {tile} = variant;
  const {down, across} = tile;
  const at = `place(firstTexel + column / ${2 * across}, packedWidth(dScores00TexShape))`;
  return {
    inputs: [
      ...planeNames('dScores', tile),
      ...(hasPrevious ? (['previous'] as const) : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
void main() {
  int index = outputTexel();
  int key = 2 * (index % pairs(keys));
  int rowPair = index / pairs(keys);
  int query = 2 * (rowPair % pairs(queries));
  int matrix = rowPair / pairs(queries);
  if (matrix >= biasSizes.x * biasSizes.y) { setOutput(vec4(0.0)); return; }
  ${keepOtherKeys(hasPrevious)}
  ivec2 first = ivec2(matrix / biasSizes.y, matrix % biasSizes.y);
  ivec2 end = ivec2(biasSizes.x > 1 ? first.x + 1 : batch, biasSizes.y > 1 ? first.y + 1 : heads);
  vec4 sum = vec4(0.0);
  for (int sampleIndex = first.x; sampleIndex < end.x; sampleIndex++) {
    for (int member = first.y; member < end.y; member++) {
      Head head = makeHead(sampleIndex * heads + member);
      ${overTilesOfRows(
        variant,
        2,
        `int column = key - firstKey;
        if (column >= 0 && column < tileKeys) {
          sum += ${planeTexel(tile, 'dScores', `query / 2 % ${down}`, `column / 2 % ${across}`, at)};
        }`,
      )}
    }
  }
  setOutput(sum);
}`,
  };
}
