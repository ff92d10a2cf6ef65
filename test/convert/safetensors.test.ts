/** readSafetensors: every element type, what it copies, and what it says of malformed files. */
import {readSafetensors} from '../../src/layers/index.js';
import {fileOf, writeSafetensors} from './write_safetensors.js';

const bytesOf = (values: {buffer: ArrayBufferLike}) => new Uint8Array(values.buffer);

const entry = (dtype: string, shape: number[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('readSafetensors', () => {
  it('reads names, shapes, metadata and elements in any order', () => {
    const header = {
      last: entry('F32', [], 8, 12),
      first: entry('F32', [2, 1], 0, 8),
      empty: entry('F32', [0, 3], 8, 8),
      __metadata__: {format: 'pt'},
    };
    const {tensors, metadata} = readSafetensors(fileOf(header, [bytesOf(new Float32Array([1.5, -2, 3]))]));
    expect(metadata).toEqual({format: 'pt'});
    expect([...tensors.keys()]).toEqual(['last', 'first', 'empty']);
    expect([...tensors.values()].map(({shape}) => shape)).toEqual([[], [2, 1], [0, 3]]);
    expect(tensors.get('first')?.dtype).toBe('F32');
    expect(tensors.get('first')?.read()).toEqual(new Float32Array([1.5, -2]));
    expect(tensors.get('last')?.read()).toEqual(new Float32Array([3]));
    expect(tensors.get('empty')?.read()).toEqual(new Float32Array(0));
  });

  const {NaN: nan, POSITIVE_INFINITY: infinity} = Number;
  const cases: {dtype: string; data: {buffer: ArrayBufferLike; length: number}; expected: Float32Array | Int32Array}[] =
    [
      {dtype: 'F32', data: new Float32Array([0.1, nan]), expected: new Float32Array([0.1, nan])},
      {dtype: 'F64', data: new Float64Array([0.1, 1e-60]), expected: new Float32Array([0.1, 0])},
      {
        dtype: 'F16',
        // 1, -2, the largest, the least normal, the largest and the least subnormal, -0, infinities, no number, 1/3.
        data: new Uint16Array([0x3c00, 0xc000, 0x7bff, 0x0400, 0x03ff, 0x8001, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0x3555]),
        expected: new Float32Array([
          1,
          -2,
          65504,
          2 ** -14,
          1023 / 2 ** 24,
          -(2 ** -24),
          -0,
          infinity,
          -infinity,
          nan,
          1365 / 4096,
        ]),
      },
      {
        dtype: 'BF16',
        data: new Uint16Array([0x3f80, 0xc000, 0x3eab, 0x0001, 0xff80]),
        expected: new Float32Array([1, -2, 171 / 512, 2 ** -133, -infinity]),
      },
      {dtype: 'I64', data: new BigInt64Array([-5n, 2147483647n]), expected: new Int32Array([-5, 2147483647])},
      {dtype: 'I32', data: new Int32Array([-5, 7]), expected: new Int32Array([-5, 7])},
      {dtype: 'I16', data: new Int16Array([-5, 7]), expected: new Int32Array([-5, 7])},
      {dtype: 'U16', data: new Uint16Array([65535]), expected: new Int32Array([65535])},
      {dtype: 'I8', data: new Int8Array([-5]), expected: new Int32Array([-5])},
      {dtype: 'U8', data: new Uint8Array([255]), expected: new Int32Array([255])},
      {dtype: 'BOOL', data: new Uint8Array([1, 0]), expected: new Int32Array([1, 0])},
    ];
  for (const {dtype, data, expected} of cases) {
    it(`reads ${dtype}, aligned or not`, () => {
      const tensor = {dtype, shape: [data.length], values: bytesOf(data)};
      const odd = {dtype: 'U8', shape: [1], values: new Uint8Array([9])};
      for (const file of [writeSafetensors({tensor}), writeSafetensors({odd, tensor})]) {
        expect(readSafetensors(file).tensors.get('tensor')?.read()).toEqual(expected);
      }
    });
  }

  it('takes a view of a file within a larger buffer, and gives aligned float32 as views of it', () => {
    const file = writeSafetensors({x: {dtype: 'F32', shape: [2], values: [1, 2]}});
    const larger = new Uint8Array(file.byteLength + 12);
    larger.set(new Uint8Array(file), 4);
    const x = readSafetensors(larger.subarray(4, 4 + file.byteLength))
      .tensors.get('x')
      ?.read();
    expect(x).toEqual(new Float32Array([1, 2]));
    expect(x?.buffer).toBe(larger.buffer);
  });

  it('says which tensor fits neither float32 nor int32, when it is read', () => {
    const file = writeSafetensors({
      ids: {dtype: 'I64', shape: [1], values: bytesOf(new BigInt64Array([2147483648n]))},
      mask: {dtype: 'F8_E4M3', shape: [1], values: new Uint8Array(1)},
    });
    const {tensors} = readSafetensors(file);
    expect(() => tensors.get('ids')?.read()).toThrowError(/tensor ids cannot be read: 2147483648 does not fit int32/);
    expect(() => tensors.get('mask')?.read()).toThrowError(/tensor mask cannot be read: its dtype F8_E4M3/);
  });

  const x = entry('F32', [1], 0, 4);
  const malformed: [what: string, file: ArrayBuffer, message: RegExp][] = [
    ['too short a file', new ArrayBuffer(7), /^readSafetensors: the file has 7 bytes, fewer than the 8/],
    ['a file that ends in the header', fileOf({x}, []).slice(0, 20), /header should have 56 bytes, but 12 follow\.$/],
    ['a header that is not JSON', fileOf('{"x": oh', []), /the header is not JSON: /],
    ['a header that is no object', fileOf('[1]', []), /the header must be an object, got \[1\]/],
    ['an unknown dtype', fileOf({x: {...x, dtype: 'F7'}}, []), /tensor x has the unknown dtype "F7"/],
    ['an inherited name as dtype', fileOf({x: {...x, dtype: 'toString'}}, []), /unknown dtype "toString"/],
    ['an entry that is no object', fileOf({x: null}, []), /tensor x has the unknown dtype undefined/],
    ['a negative size', fileOf({x: {...x, shape: [-1]}}, []), /tensor x has the shape \[-1\]/],
    ['no offsets', fileOf({x: {...x, data_offsets: undefined}}, []), /tensor x has the data_offsets undefined/],
    ['offsets that go back', fileOf({x: entry('F32', [1], 4, 0)}, []), /has the data_offsets \[4,0\]/],
    [
      'offsets that do not fit the shape',
      fileOf({x: {...x, shape: [2, 3]}}, [new Uint8Array(4)]),
      /tensor x of F32 \[2,3\] takes 24 bytes, but its data_offsets \[0,4\] hold 4/,
    ],
    [
      'offsets outside the file',
      fileOf({x}, [new Uint8Array(3)]),
      /tensor x ends at byte 4 of 3: the file is cut short/,
    ],
    [
      'tensors that overlap',
      fileOf({x, y: entry('F32', [1], 2, 6)}, [new Uint8Array(6)]),
      /tensor y starts at byte 2, within one that ends at 4/,
    ],
    [
      'a gap between tensors',
      fileOf({x, y: entry('F32', [1], 5, 9)}, [new Uint8Array(9)]),
      /bytes 4 to 5 before tensor y belong to no tensor/,
    ],
    ['bytes after the last tensor', fileOf({x}, [new Uint8Array(9)]), /tensors have 4 bytes, but 9 follow the header/],
  ];
  for (const [what, file, message] of malformed) {
    it(`rejects ${what}`, () => {
      expect(() => readSafetensors(file)).toThrowError(message);
    });
  }
});
