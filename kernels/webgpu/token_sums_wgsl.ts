/** WGSL of the kernel for sums by token: a workgroup takes one token, and some columns of it. */
import {entryPoint, makeShader, type Shader} from './shader.js';

/** Invocations of a workgroup, each of which adds up one column. */
export const TOKEN_SUM_THREADS = 256;
/** Rows whose tokens each invocation looks at, before the workgroup adds up those that were found. */
const LOOKS = 8;
const WORDS = (TOKEN_SUM_THREADS * LOOKS) / 32;

/**
 * A chunk of rows at a time, a bit for each says whether it is the token's. Atomic are only these bits, whose order does not
 * matter; rows are added up in theirs. `element` is what counts as one column.
 */
export function tokenSumsShader(element: 'f32' | 'vec4f'): Shader {
  return makeShader(
    [
      {name: 'x', access: 'read', element},
      {name: 'tokens', access: 'read', element: 'i32'},
      {name: 'sums', access: 'read_write', element},
    ],
    `
struct Params { rows: u32, columns: u32, vocabSize: u32 }`,
    `
var<workgroup> found: array<atomic<u32>, ${WORDS}>;
var<workgroup> foundAny: atomic<u32>;
${entryPoint(
  TOKEN_SUM_THREADS,
  `
  let groups = (params.columns + ${TOKEN_SUM_THREADS - 1}u) / ${TOKEN_SUM_THREADS}u;
  let token = workgroup / groups;
  if (token >= params.vocabSize) { return; }
  let column = workgroup % groups * ${TOKEN_SUM_THREADS}u + localIndex;
  var sum = ${element}();
  for (var start = 0u; start < params.rows; start += ${TOKEN_SUM_THREADS * LOOKS}u) {
    if (localIndex < ${WORDS}u) { atomicStore(&found[localIndex], 0u); }
    if (localIndex == 0u) { atomicStore(&foundAny, 0u); }
    workgroupBarrier();
    for (var look = localIndex; look < ${TOKEN_SUM_THREADS * LOOKS}u; look += ${TOKEN_SUM_THREADS}u) {
      let row = start + look;
      if (row < params.rows && tokens[min(row, params.rows - 1u)] == i32(token)) {
        atomicOr(&found[look / 32u], 1u << (look % 32u));
        atomicStore(&foundAny, 1u);
      }
    }
    workgroupBarrier();
    // Most tokens of a large vocabulary are in few chunks.
    let endWord = ${WORDS}u * atomicLoad(&foundAny);
    for (var word = 0u; word < endWord; word++) {
      var bits = atomicLoad(&found[word]);
      while (bits != 0u) {
        let row = start + word * 32u + firstTrailingBit(bits);
        bits &= bits - 1u;
        if (column < params.columns) { sum += x[row * params.columns + column]; }
      }
    }
    workgroupBarrier();
  }
  if (column < params.columns) { sums[token * params.columns + column] = sum; }`,
)}`,
  );
}
