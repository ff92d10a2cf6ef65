/** The safetensors format: tensors by name in one file, read one at a time. */

/** Bytes of an element of each type that the format knows. */
const BYTES_PER_ELEMENT = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** Name of an element type in a safetensors file. */
export type SafetensorsDtype = keyof typeof BYTES_PER_ELEMENT;

/** One tensor of a safetensors file. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: number[];
  /**
   * Its elements, row-major: as float32 those of F64, F32, F16 and BF16, as int32 those of I64, I32 and smaller integers.
   * Decoded at each call; F32 and I32 that lie aligned in the file are a view of its bytes rather than a copy.
   */
  read(): Float32Array | Int32Array;
}

/** What {@link readSafetensors} returns. */
export interface Safetensors {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  /** The strings under `__metadata__`; empty if there are none. */
  readonly metadata: Readonly<Record<string, string>>;
}

interface Entry {
  dtype: SafetensorsDtype;
  shape: number[];
  data_offsets: [number, number];
}

const HEADER_LENGTH_BYTES = 8;

/**
 * Reads the header of a file in the safetensors format: 8 bytes with the length of the header (little-endian), the header
 * as JSON ({name: {dtype, shape, data_offsets}}), and the tensors' bytes. No tensor is decoded or copied until its `read`
 * is called, so that a large file is held once.
 *
 * Source: https://huggingface.co/docs/safetensors.
 *
 * ```js
 * const header = new TextEncoder().encode('{"bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}');
 * const file = new Uint8Array(8 + header.length + 8);
 * file[0] = header.length;
 * file.set(header, 8);
 * file.set(new Uint8Array(new Float32Array([1, 2]).buffer), 8 + header.length);
 * const bias = tf.readSafetensors(file).tensors.get('bias');
 * console.log(bias.shape, bias.read()); // [2] [1, 2]
 * ```
 *
 * @param data the file, which must not change while its tensors are in use.
 * @throws Error that says what is malformed: a file that is too short, a header that is no JSON object, an unknown dtype, a
 *     shape whose size is not that of its bytes, or bytes that overlap, lie outside the file or belong to no tensor.
 */
export function readSafetensors(data: ArrayBuffer | ArrayBufferView): Safetensors {
  const file = ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  const headerLength = lengthOfHeader(file);
  const dataStart = HEADER_LENGTH_BYTES + headerLength;
  const {__metadata__: metadata = {}, ...entries} = parseHeader(file.subarray(HEADER_LENGTH_BYTES, dataStart));
  for (const [name, entry] of Object.entries(entries)) assertEntry(name, entry);
  const checked = entries as Record<string, Entry>;
  assertCovered(checked, file.length - dataStart);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, {dtype, shape, data_offsets: offsets}] of Object.entries(checked)) {
    const [begin, end] = offsets.map((offset) => dataStart + offset);
    tensors.set(name, {dtype, shape, read: () => decode(name, dtype, file.subarray(begin, end))});
  }
  return {tensors, metadata: metadata as Record<string, string>};
}

function lengthOfHeader(file: Uint8Array): number {
  if (file.length < HEADER_LENGTH_BYTES) {
    throw malformed(`the file has ${file.length} bytes, fewer than the ${HEADER_LENGTH_BYTES} of the header's length`);
  }
  const length = new DataView(file.buffer, file.byteOffset).getBigUint64(0, true);
  const rest = file.length - HEADER_LENGTH_BYTES;
  if (length > rest) throw malformed(`the header should have ${length} bytes, but ${rest} follow`);
  return Number(length);
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(bytes));
  } catch (cause) {
    throw malformed(`the header is not JSON: ${(cause as Error).message}`);
  }
  if (!isRecord(header)) throw malformed(`the header must be an object, got ${JSON.stringify(header)}`);
  return header;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function assertEntry(name: string, entry: unknown): asserts entry is Entry {
  const {dtype, shape, data_offsets: offsets} = isRecord(entry) ? entry : {};
  if (typeof dtype !== 'string' || !Object.hasOwn(BYTES_PER_ELEMENT, dtype)) {
    throw malformed(`tensor ${name} has the unknown dtype ${JSON.stringify(dtype)}`);
  }
  if (!areSizes(shape)) throw malformed(`tensor ${name} has the shape ${JSON.stringify(shape)}`);
  if (!areSizes(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw malformed(`tensor ${name} has the data_offsets ${JSON.stringify(offsets)}`);
  }
  const bytes = shape.reduce((product, size) => product * size, BYTES_PER_ELEMENT[dtype as SafetensorsDtype]);
  if (bytes !== offsets[1] - offsets[0]) {
    throw malformed(
      `tensor ${name} of ${dtype} [${shape}] takes ${bytes} bytes, but its data_offsets [${offsets}] hold ` +
        `${offsets[1] - offsets[0]}`,
    );
  }
}

function areSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** The format asks that each byte belong to exactly one tensor. */
function assertCovered(entries: Record<string, Entry>, length: number): void {
  const spans = Object.entries(entries).map(([name, {data_offsets: offsets}]) => ({name, offsets}));
  spans.sort((a, b) => a.offsets[0] - b.offsets[0] || a.offsets[1] - b.offsets[1]);
  let covered = 0;
  for (const {name, offsets} of spans) {
    const [begin, end] = offsets;
    if (end > length) throw malformed(`tensor ${name} ends at byte ${end} of ${length}: the file is cut short`);
    if (begin < covered) throw malformed(`tensor ${name} starts at byte ${begin}, within one that ends at ${covered}`);
    if (begin > covered) throw malformed(`bytes ${covered} to ${begin} before tensor ${name} belong to no tensor`);
    covered = end;
  }
  if (covered < length) throw malformed(`the tensors have ${covered} bytes, but ${length} follow the header`);
}

function malformed(what: string): Error {
  return new Error(`readSafetensors: ${what}.`);
}

function decode(name: string, dtype: SafetensorsDtype, bytes: Uint8Array): Float32Array | Int32Array {
  switch (dtype) {
    case 'F32':
      return elementsOf(Float32Array, bytes);
    case 'F64':
      return Float32Array.from(elementsOf(Float64Array, bytes));
    case 'F16':
      return decodeFloat16(elementsOf(Uint16Array, bytes));
    case 'BF16':
      return decodeBfloat16(elementsOf(Uint16Array, bytes));
    case 'I32':
      return elementsOf(Int32Array, bytes);
    case 'I64':
      return decodeInt64(name, elementsOf(BigInt64Array, bytes));
    case 'I16':
      return Int32Array.from(elementsOf(Int16Array, bytes));
    case 'U16':
      return Int32Array.from(elementsOf(Uint16Array, bytes));
    case 'I8':
      return Int32Array.from(elementsOf(Int8Array, bytes));
    case 'U8':
    case 'BOOL':
      return Int32Array.from(bytes);
    default:
      throw new Error(
        `readSafetensors: tensor ${name} cannot be read: its dtype ${dtype} fits neither float32 nor int32.`,
      );
  }
}

/** The elements in these bytes; copies them only if they start where no such element may. */
function elementsOf<T>(
  type: {new (buffer: ArrayBufferLike, byteOffset: number, length: number): T; readonly BYTES_PER_ELEMENT: number},
  bytes: Uint8Array,
): T {
  const aligned = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new type(aligned.buffer, aligned.byteOffset, aligned.length / type.BYTES_PER_ELEMENT);
}

let float16Values: Float32Array | undefined;

/** A table of all 65536 halves: the fastest way to decode millions of them. */
function decodeFloat16(halves: Uint16Array): Float32Array {
  float16Values ??= Float32Array.from({length: 1 << 16}, (_, bits) => float16FromBits(bits));
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = float16Values[halves[i]];
  return values;
}

function float16FromBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** A bfloat16 is the upper half of a float32. */
function decodeBfloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  return new Float32Array(bits.buffer);
}

function decodeInt64(name: string, integers: BigInt64Array): Int32Array {
  return Int32Array.from(integers, (integer) => {
    if (BigInt.asIntN(32, integer) !== integer) {
      throw new Error(`readSafetensors: tensor ${name} cannot be read: ${integer} does not fit int32.`);
    }
    return Number(integer);
  });
}
