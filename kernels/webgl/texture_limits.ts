/** Whether what an op needs fits into textures, before any of them is made. */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {env} from '@tensorflow/tfjs-core';

/** Texels, of two rows × two columns each, that one texture can hold. */
export function largestTexture(): number {
  return env().getNumber('WEBGL_MAX_TEXTURE_SIZE') ** 2;
}

/** Throws an error that names the op, the tensor and its shape if one does not fit. */
export function assertTexturesFit(op: string, shapes: Readonly<Record<string, TensorInfo['shape'] | undefined>>): void {
  for (const [name, shape] of Object.entries(shapes)) {
    if (!shape) continue;
    const [rows, columns] = [1, 1, ...shape].slice(-2);
    const matrices = shape.slice(0, -2).reduce((product, size) => product * size, 1);
    const texels = matrices * Math.ceil(rows / 2) * Math.ceil(columns / 2);
    if (texels <= largestTexture()) continue;
    const side = env().getNumber('WEBGL_MAX_TEXTURE_SIZE');
    throw new Error(
      `${op}: ${name} of shape [${shape}] needs ${texels} texels, but a texture of this WebGL device holds ` +
        `${side} × ${side} = ${largestTexture()}.`,
    );
  }
}
