/** Permutations as butterflies. */
import {butterflyBlock, toStage} from './butterfly_block.js';
import {type FastTransform, inversePermutation} from './fast_transform.js';
import {checkedPermutation} from './transform_arguments.js';

/**
 * Any permutation, y[i] = x[permutation[i]] as in `tf.gather`, as a butterfly of two blocks whose 2 × 2 matrices keep
 * or exchange their elements. The blocks are a Beneš network, with strides n / 2, …, 2, 1 and then 1, 2, …, n / 2.
 * Unlike a gather it can be the start of a permutation that is learnt.
 *
 * Source: Beneš, "Mathematical Theory of Connecting Networks and Telephone Traffic" (1965); Dao et al., "Kaleidoscope:
 * An Efficient, Learnable Representation For All Structured Linear Maps" (2020, arXiv 2012.14966).
 *
 * ```js
 * const transform = tf.transforms.permutationToButterfly([2, 0, 3, 1]);
 * const y = tf.applyTransform([10, 11, 12, 13], transform);
 * console.log(y.arraySync()); // [12, 10, 13, 11]
 * ```
 *
 * @param permutation [n] indices, each from 0 to n − 1 once, for a power of two n from 2 on.
 * @throws Error if it is no such permutation.
 */
export function permutationToButterfly(permutation: ArrayLike<number>): FastTransform<'real'> {
  const n = checkedPermutation('permutationToButterfly', permutation).length;
  const inputSwitches = new Map<number, Uint8Array>();
  const outputSwitches = new Map<number, Uint8Array>();
  let rest: Int32Array = Int32Array.from(permutation);
  for (let stride = n / 2; stride >= 1; stride /= 2) {
    const upper = upperHalves(rest, stride);
    outputSwitches.set(stride, upper);
    const source = inversePermutation(rest);
    inputSwitches.set(
      stride,
      upper.map((_, i) => upper[source[i]]),
    );
    rest = innerPermutation(rest, stride, upper);
  }
  const blockOf = (switches: Map<number, Uint8Array>, increasingStride: boolean) =>
    butterflyBlock(n, increasingStride, (stride, first) => ({
      real: switches.get(stride)?.[first] ? [0, 1, 1, 0] : [1, 0, 0, 1],
    }));
  const stage = toStage([blockOf(inputSwitches, false), blockOf(outputSwitches, true)]);
  return {field: 'real', inputShape: [n], outputShape: [n], stages: [stage]};
}

/**
 * For each output, whether it goes through the upper half of its group of 2·stride elements (1) or the lower one (0).
 * Elements of a pair, at a distance of `stride`, must go through different halves, as outputs and as inputs. So one
 * output settles that of its pair, whose input settles the other input of its own pair, which is the source of another
 * output: until the loop closes.
 */
function upperHalves(permutation: Int32Array, stride: number): Uint8Array {
  const outputOf = inversePermutation(permutation);
  const upper = new Uint8Array(permutation.length);
  const isSettled = new Uint8Array(permutation.length);
  for (let start = 0; start < permutation.length; start++) {
    for (let output = start; !isSettled[output]; ) {
      // Strides are powers of two, so this is the other element of the pair.
      const partner = output ^ stride;
      upper[partner] = 1;
      isSettled[output] = isSettled[partner] = 1;
      output = outputOf[permutation[partner] ^ stride];
    }
  }
  return upper;
}

/** What is left to be permuted inside of the halves, with the switches of their inputs and outputs set. */
function innerPermutation(permutation: Int32Array, stride: number, upper: Uint8Array): Int32Array {
  const inner = new Int32Array(permutation.length);
  permutation.forEach((input, output) => {
    const half = upper[output] * stride;
    inner[(output & ~stride) + half] = (input & ~stride) + half;
  });
  return inner;
}
