/** Writes files in the safetensors format, for specs that read them. */

/** A tensor to write: its numbers, or its bytes as they shall stand in the file. */
export interface TensorToWrite {
  dtype: string;
  shape: number[];
  values: ArrayLike<number> | Uint8Array;
}

/** The file that holds these tensors one after the other. */
export function writeSafetensors(
  tensors: Record<string, TensorToWrite>,
  metadata?: Record<string, string>,
): ArrayBuffer {
  const header: Record<string, unknown> = metadata ? {__metadata__: metadata} : {};
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const [name, {dtype, shape, values}] of Object.entries(tensors)) {
    const bytes = encode(dtype, values);
    header[name] = {dtype, shape, data_offsets: [offset, offset + bytes.length]};
    offset += bytes.length;
    data.push(bytes);
  }
  return fileOf(header, data);
}

/** A file with this header, right or wrong, and this data. */
export function fileOf(header: unknown, data: Uint8Array[]): ArrayBuffer {
  const json = typeof header === 'string' ? header : JSON.stringify(header);
  const headerBytes = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const dataLength = data.reduce((sum, {length}) => sum + length, 0);
  const file = new Uint8Array(8 + headerBytes.length + dataLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes.length), true);
  file.set(headerBytes, 8);
  let offset = 8 + headerBytes.length;
  for (const bytes of data) {
    file.set(bytes, offset);
    offset += bytes.length;
  }
  return file.buffer;
}

function encode(dtype: string, values: TensorToWrite['values']): Uint8Array {
  if (values instanceof Uint8Array) return values;
  const floats = Float32Array.from(values);
  if (dtype === 'F32') return new Uint8Array(floats.buffer);
  const halfOf = {F16: float16Bits, BF16: (bits: number) => bits >>> 16}[dtype];
  if (!halfOf) throw new Error(`Give the bytes of ${dtype}.`);
  return new Uint8Array(Uint16Array.from(new Uint32Array(floats.buffer), halfOf).buffer);
}

/** Of the bits of a float32 that is 0 or a normal float16 those of the float16. */
function float16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  return magnitude === 0 ? sign : sign | ((magnitude - (112 << 23)) >>> 13);
}
