/** WGSL of gelu and its backward pass: an invocation makes one element, or four side by side. */
import {geluFunctions} from '../gelu_formulas.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';

export const GELU_THREADS = 256;

export interface GeluVariant {
  approximate: boolean;
  hasBias: boolean;
  /** What counts as one element of the tensors. */
  element: 'f32' | 'vec4f';
  backward: boolean;
}

export function geluShader({approximate, hasBias, element, backward}: GeluVariant): Shader {
  const read = (name: string): Binding => ({name, access: 'read', element});
  const functions = geluFunctions(
    {
      type: element,
      declareFunction: (name, body) => `
fn ${name}(x: ${element}) -> ${element} {${body}
}`,
      declare: (name, value) => `let ${name} = ${value};`,
      bySign: (whereNegative, elsewhere) => `select(${elsewhere}, ${whereNegative}, x < ${element}())`,
    },
    approximate,
  );
  return makeShader(
    [
      read('x'),
      ...(hasBias ? [read('bias')] : []),
      ...(backward ? [read('dy')] : []),
      {name: 'result', access: 'read_write', element},
    ],
    `
struct Params { size: u32, columns: u32 }`,
    `
${functions}
${entryPoint(
  GELU_THREADS,
  `
  let index = workgroup * ${GELU_THREADS}u + localIndex;
  if (index >= params.size) { return; }
  let biased = x[index]${hasBias ? ' + bias[index % params.columns]' : ''};
  result[index] = ${backward ? 'dy[index] * geluSlope(biased)' : 'gelu(biased)'};`,
)}`,
  );
}
