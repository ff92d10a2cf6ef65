/** The fast transforms on every backend: equal to their definitions, unitary where they say so, clear about bad input. */
import * as tf from '@tensorflow/tfjs-core';
import {applyTransform, transforms} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {
  type Entry,
  expectMatrix,
  expectUnitary,
  matrixProduct,
  normalValues,
  phase,
  randomOrder,
} from './direct_products.js';

const {acdc, bitReversal, circulant, circularConvolution, circularConvolution2d, dct, dst, fastfood} = transforms;
const {fft, fft2d, haarWavelet, hadamard, ifft, ifft2d, permutationToButterfly, toeplitz} = transforms;

const SIZES = [16, 512];

const hadamardSign = (k: number, j: number) => {
  let sign = 1;
  for (let common = k & j; common > 0; common >>= 1) sign *= common & 1 ? -1 : 1;
  return sign;
};

const cosine = (n: number) => (k: number, j: number) => {
  return Math.sqrt((k === 0 ? 1 : 2) / n) * Math.cos((Math.PI * k * (2 * j + 1)) / (2 * n));
};

describeOnBackends('transforms', () => {
  for (const n of SIZES) {
    const dft = (k: number, j: number) => phase((-2 * Math.PI * ((k * j) % n)) / n);
    const angle = (k: number, j: number) => (Math.PI * k * (2 * j + 1)) / (2 * n);

    it(`fft and ifft, n = ${n}`, async () => {
      await expectMatrix(fft(n), dft);
      await expectMatrix(ifft(n), (k, j) => phase((2 * Math.PI * ((k * j) % n)) / n, 1 / n));
      await expectMatrix(
        fft(n, {unitary: true}),
        (k, j) => dft(k, j).map((part) => part / Math.sqrt(n)) as [number, number],
      );
    });

    it(`fft and ifft do what those of tfjs do, n = ${n}`, async () => {
      const [real, imag] = [1, 2].map((seed) => tf.randomNormal([3, n], 0, 1, 'float32', seed));
      const x = tf.complex(real, imag);
      for (const [ours, theirs] of [
        [fft(n), tf.spectral.fft(x)],
        [ifft(n), tf.spectral.ifft(x)],
      ] as const) {
        const y = applyTransform({real, imag}, ours);
        const scale = Math.max(...(await theirs.abs().data()));
        for (const [name, part] of [
          ['real', tf.real(theirs)],
          ['imag', tf.imag(theirs)],
        ] as const) {
          // Both round once per factor, and tfjs's angles on software GPUs are off by 1e-4.
          expectWithin(name, await y[name].data(), await part.data(), 3e-4 * scale);
        }
      }
    });

    it(`hadamard, n = ${n}`, () => expectMatrix(hadamard(n), hadamardSign));

    it(`dct of all types, n = ${n}`, async () => {
      await expectMatrix(dct(n), (k, j) => 2 * Math.cos(angle(k, j)));
      await expectMatrix(dct(n, 3), (k, j) => (j === 0 ? 1 : 2) * Math.cos(angle(j, k)));
      await expectMatrix(dct(n, 4), (k, j) => 2 * Math.cos(angle(k + 0.5, j)));
      await expectMatrix(dct(n, 2, {orthonormal: true}), cosine(n));
    });

    it(`dst of all types, n = ${n}`, async () => {
      await expectMatrix(dst(n), (k, j) => 2 * Math.sin(angle(k + 1, j)));
      await expectMatrix(dst(n, 3), (k, j) => (j === n - 1 ? 1 : 2) * Math.sin(angle(j + 1, k)));
      await expectMatrix(dst(n, 4), (k, j) => 2 * Math.sin(angle(k + 0.5, j)));
    });

    it(`haarWavelet, n = ${n}`, () =>
      expectMatrix(haarWavelet(n), (k, j) => {
        if (k === 0) return 1 / Math.sqrt(n);
        const differences = 2 ** Math.floor(Math.log2(k));
        const place = (j * differences) / n - (k - differences);
        if (place < 0 || place >= 1) return 0;
        return Math.sqrt(differences / n) * (place < 0.5 ? 1 : -1);
      }));

    it(`circulant, n = ${n}`, async () => {
      const column = normalValues(n);
      await expectMatrix(circulant(column), (i, j) => column[(i - j + n) % n]);
    });

    it(`toeplitz, n = ${n}`, async () => {
      const [column, row] = [normalValues(n), normalValues(n, 2)];
      const entry: Entry = (i, j) => (i >= j ? column[i - j] : row[j - i]);
      await expectMatrix(toeplitz(column, row), entry);
      await expectMatrix(toeplitz(column.subarray(0, 5), row.subarray(0, 12)), entry);
      await expectMatrix(toeplitz(column.subarray(0, 13), row.subarray(0, 3)), entry);
    });

    it(`circularConvolution, n = ${n}`, async () => {
      const filter = normalValues(7);
      await expectMatrix(circularConvolution(filter, n), (i, j) => filter[(i - j + n) % n] ?? 0);
    });

    it(`fastfood, n = ${n}`, async () => {
      const [gaussian, scaling] = [normalValues(n, 1), normalValues(n, 2)];
      const [signs, permutation] = [normalValues(n, 3).map(Math.sign), randomOrder(n)];
      const spread = (m: number, j: number) => gaussian[m] * hadamardSign(permutation[m], j) * signs[j];
      const product = matrixProduct(n, hadamardSign, spread);
      const expected: Entry = (k, j) => (scaling[k] * product(k, j)) / Math.sqrt(n);
      await expectMatrix(fastfood({signs, permutation, gaussian, scaling}), expected);
    });

    it(`acdc, of one layer and of two, n = ${n}`, async () => {
      const layers = [1, 3].map((seed) => ({signal: normalValues(n, seed), spectrum: normalValues(n, seed + 1)}));
      const [first, second] = layers.map(({signal, spectrum}) => {
        const inverse = (k: number, m: number) => cosine(n)(m, k);
        return matrixProduct(n, inverse, (m, j) => spectrum[m] * cosine(n)(m, j) * signal[j]);
      });
      await expectMatrix(acdc(layers.slice(0, 1)), first);
      await expectMatrix(acdc(layers), matrixProduct(n, second, first));
      expect(acdc(layers).stages.map((stage) => 'indices' in stage)).toEqual([true, false, false, false, false, true]);
    });
  }

  for (const [n1, n2] of [
    [2, 8],
    [16, 32],
  ] as const) {
    it(`fft2d, ifft2d and circularConvolution2d, ${n1} × ${n2}`, async () => {
      const placeOf = (i: number) => [Math.floor(i / n2), i % n2];
      const dft2d = (sign: number, scale: number) => (k: number, j: number) => {
        const [[k1, k2], [j1, j2]] = [placeOf(k), placeOf(j)];
        return phase(sign * 2 * Math.PI * (((k1 * j1) % n1) / n1 + ((k2 * j2) % n2) / n2), scale);
      };
      await expectMatrix(fft2d(n1, n2), dft2d(-1, 1));
      await expectMatrix(ifft2d(n1, n2), dft2d(1, 1 / (n1 * n2)));
      const filter = [normalValues(3), normalValues(3, 2)];
      await expectMatrix(circularConvolution2d(filter, [n1, n2]), (k, j) => {
        const [[k1, k2], [j1, j2]] = [placeOf(k), placeOf(j)];
        return filter[(k1 - j1 + n1) % n1]?.[(k2 - j2 + n2) % n2] ?? 0;
      });
    });
  }

  for (const [name, transform] of Object.entries({
    fft: fft(32, {unitary: true}),
    ifft: ifft(32, {unitary: true}),
    fft2d: fft2d(4, 8, {unitary: true}),
    ifft2d: ifft2d(8, 4, {unitary: true}),
    hadamard: hadamard(32, {unitary: true}),
    'dct of type 2': dct(32, 2, {orthonormal: true}),
    'dct of type 3': dct(32, 3, {orthonormal: true}),
    'dct of type 4': dct(32, 4, {orthonormal: true}),
    'dst of type 2': dst(32, 2, {orthonormal: true}),
    'dst of type 3': dst(32, 3, {orthonormal: true}),
    'dst of type 4': dst(32, 4, {orthonormal: true}),
    haarWavelet: haarWavelet(32),
  })) {
    it(`${name} is unitary`, () => expectUnitary(transform));
  }

  it('work with two elements', async () => {
    await expectMatrix(fft(2), hadamardSign);
    await expectMatrix(dct(2, 2, {orthonormal: true}), cosine(2));
    await expectMatrix(dst(2, 4), (k, j) => 2 * Math.sin((Math.PI * (2 * k + 1) * (2 * j + 1)) / 8));
    await expectMatrix(haarWavelet(2), (k, j) => hadamardSign(k, j) * Math.SQRT1_2);
    await expectMatrix(circulant([3, 5]), (k, j) => (k === j ? 3 : 5));
    await expectMatrix(toeplitz([3], [3]), () => 3);
  });

  it('name the function and the argument that does not fit', () => {
    const makers = {fft, ifft, hadamard, dct, dst, haarWavelet, bitReversal};
    for (const [name, maker] of Object.entries(makers)) {
      for (const n of [12, 1, 0, -4, 2.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(() => maker(n)).toThrowError(`${name}: n must be a power of two from 2 on, got ${n}.`);
      }
    }
    expect(() => fft2d(4, 3)).toThrowError('fft2d: n2 must be a power of two from 2 on, got 3.');
    expect(() => ifft2d(3, 4)).toThrowError('ifft2d: n1 must be a power of two from 2 on, got 3.');
    expect(() => dct(4, 1 as 2)).toThrowError('dct: type must be 2, 3 or 4, got 1.');
    expect(() => circulant([1, 2, 3])).toThrowError(
      'circulant: column.length must be a power of two from 2 on, got 3.',
    );
    expect(() => circulant([1, Number.NaN])).toThrowError('circulant: column must hold finite numbers, got NaN at 1.');
    expect(() => toeplitz([1], [])).toThrowError('toeplitz: row must have at least one value, got none.');
    expect(() => circularConvolution([1, 2, 3], 2)).toThrowError(
      'circularConvolution: filter must have at most n = 2 values, got 3.',
    );
    expect(() => circularConvolution2d([[1, 2, 3]], [2, 2])).toThrowError(
      'circularConvolution2d: filter must have at most 2 × 2 values, got 1 × 3.',
    );
    expect(() => circularConvolution2d([[1]], [2, 3])).toThrowError(
      'circularConvolution2d: shape[1] must be a power of two from 2 on, got 3.',
    );
    expect(() => permutationToButterfly([0, 2])).toThrowError(
      'permutationToButterfly: permutation must hold each integer from 0 to 1 once, got [0, 2].',
    );
    const diagonals = {signs: [1, 1], permutation: [1, 0], gaussian: [1, 1], scaling: [1]};
    expect(() => fastfood(diagonals)).toThrowError(
      'fastfood: scaling must have as many values as the others, 2, got 1.',
    );
    expect(() => acdc([])).toThrowError('acdc: acdcLayers must have at least one layer, got none.');
    expect(() => acdc([{signal: [1, 1], spectrum: [1, 1, 1]}])).toThrowError(
      'acdc: acdcLayers[0].spectrum must have as many values as the others, 2, got 3.',
    );
  });
});
