/** Well-known fast transforms as butterflies: `tf.transforms`. */
export {circulant, circularConvolution, circularConvolution2d, toeplitz} from './convolution.js';
export {type AcdcLayer, acdc, type FastfoodArgs, fastfood} from './diagonal_products.js';
export {
  type ButterflyStage,
  type FastTransform,
  type GatherStage,
  makeTwiddle,
  type NumberField,
  transposeTransform,
} from './fast_transform.js';
export {bitReversal, type FourierOptions, fft, fft2d, ifft, ifft2d} from './fourier.js';
export {type HadamardOptions, haarWavelet, hadamard} from './hadamard_and_haar.js';
export {permutationToButterfly} from './permutation.js';
export {dct, dst, type TrigonometricOptions, type TrigonometricType} from './trigonometric.js';
