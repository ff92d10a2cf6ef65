/**
 * WGSL of the kernel for dSlopes: a workgroup takes a tile of queries through all keys they see and writes one number,
 * their share of −Σ dS·distance. tfjs adds up the shares.
 *
 * A row's dS add up to its dLse, but rounding leaves a residual, which distances would multiply. So distances count
 * from their mean under P: Σ dS·distance − residual·Σ P·distance is the same number where the residual is 0, and rounds
 * less where it is not. And where a row's P, recomputed, do not add up to 1, all of its sums are off by that factor, so
 * they are divided by it.
 */
import {type AttentionVariant, attentionShader} from './attention_wgsl.js';
import {overColumnTiles} from './live_tiles_wgsl.js';
import {columnsOfQuad, declareRowStats, scoreGradient} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {enterThreads, lines, rowOfSlot, rowQuad} from './tile_wgsl.js';

export function slopesGradientShader(variant: AttentionVariant, tile: TileSizes): Shader {
  const {threads, threadsDown, threadsAcross} = threadGrid(tile);
  const core = scoreGradient(variant, tile, 'queries', 'scores');
  const addQuad = (i: number, n: number) => `{
      let distance = vec4f(abs(vec4i(diagonal + ${i}) - ${columnsOfQuad(tile, n)}));
      sums${i} += vec4f(
        dot(d${i}_${n}, distance), dot(d${i}_${n}, vec4f(1.0)), dot(s${i}_${n}, distance), dot(s${i}_${n}, vec4f(1.0)));
    }`;
  const body = `
${core.declarations}
${entryPoint(
  threads,
  `
  if (workgroup >= params.batch * params.heads * params.rowTiles) { return; }
  ${enterThreads(tile)}
  let rowStart = workgroup % params.rowTiles * ${tile.rows}u;
  let batch = workgroup / params.rowTiles / params.heads;
  let headOfQuery = workgroup / params.rowTiles % params.heads;
  ${core.enterHead}
  let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
  // The key under the invocation's first row.
  let diagonal = i32(rowStart + threadRow * ${tile.threadRows}u) + head.diagonal;
  ${declareRowStats(tile)}
  ${core.keepRows}
  // Of each row, the sums of dS·distance, dS, P·distance and P.
  ${lines(tile.threadRows, (i) => `var sums${i} = vec4f();`)}

  let endKey = u32(max(seen.y, 0));
  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'columnStart',
    ['u32(seen.x)', 'endKey'],
    `
    ${core.tile}
    ${lines(tile.threadRows, (i) => lines(tile.threadColumns / 4, (n) => addQuad(i, n)))}`,
  )}

  // Row memory gathers the sums of the invocations across; then each row's share, in its first place.
  workgroupBarrier();
  ${lines(
    tile.threadRows,
    (i) => `${rowQuad(core.weights, `${i * threadsDown}u + threadRow`, 'threadColumn')} = sums${i};`,
  )}
  workgroupBarrier();
  for (var slot = localIndex; slot < ${tile.rows}u; slot += ${threads}u) {
    var total = vec4f();
    for (var t = 0u; t < ${threadsAcross}u; t++) { total += ${rowQuad(core.weights, 'slot', 't')}; }
    // Rows that see no key have no P, and no dS either.
    total /= max(total.w, 0.5);
    let residual = total.y - statsOf(head, rowStart + ${rowOfSlot(tile, 'slot')}).w;
    ${rowQuad(core.weights, 'slot', '0u')}.x = residual * total.z - total.x;
  }
  // In pairs: a running sum would round every row to the precision of the total.
  for (var half = ${tile.rows / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    for (var slot = localIndex; slot < half; slot += ${threads}u) {
      ${rowQuad(core.weights, 'slot', '0u')}.x += ${rowQuad(core.weights, 'slot + half', '0u')}.x;
    }
  }
  if (localIndex == 0u) { dSlopes[workgroup] = ${rowQuad(core.weights, '0u', '0u')}.x; }`,
)}`;
  return attentionShader([...core.bindings, {name: 'dSlopes', access: 'read_write', element: 'f32'}], body);
}
