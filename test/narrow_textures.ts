/** Specs in textures so narrow that what stands side by side in a tensor does not in its texture. */
import * as tf from '@tensorflow/tfjs-core';
import {describeOnBackends} from './backends.js';

/** `describe` on WebGL, with textures of at most `side` × `side` texels. */
export function describeInNarrowTextures(name: string, side: number, specs: () => void): void {
  const flag = 'WEBGL_MAX_TEXTURE_SIZE';
  describeOnBackends(
    `${name} in narrow textures`,
    () => {
      let largest: number;
      beforeEach(() => {
        largest = tf.env().getNumber(flag);
        tf.env().set(flag, side);
      });
      afterEach(() => tf.env().set(flag, largest));
      specs();
    },
    {predicate: ({backendName}) => backendName === 'webgl'},
  );
}
