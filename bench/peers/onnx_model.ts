/** ONNX models of one node, written as protobuf by hand: all that a peer's attention op needs to run. */

/** Field numbers of onnx.proto. */
const MODEL = {irVersion: 1, graph: 7, opsetImport: 8};
const OPSET = {domain: 1, version: 2};
const GRAPH = {node: 1, name: 2, input: 11, output: 12};
const NODE = {input: 1, output: 2, opType: 4, attribute: 5, domain: 7};
const ATTRIBUTE = {name: 1, int: 3, type: 20};
const VALUE = {name: 1, type: 2};
const TENSOR_TYPE = {elementType: 1, shape: 2};
const INT_ATTRIBUTE = 2;
const ELEMENT_TYPES = {float32: 1, int32: 6};

/** An input or output; its name says `absent…` where the op is to get none. */
export interface ModelValue {
  rank: number;
  type?: keyof typeof ELEMENT_TYPES;
}

/** A model that applies one op of the domain com.microsoft to inputs, by default float32, in the op's order. */
export function oneNodeModel(
  opType: string,
  inputs: Record<string, ModelValue>,
  outputs: Record<string, ModelValue>,
  attributes: Record<string, number>,
): Uint8Array {
  const domain = 'com.microsoft';
  const node = message(
    ...Object.keys(inputs).map((name) => text(NODE.input, name.startsWith('absent') ? '' : name)),
    ...Object.keys(outputs).map((name) => text(NODE.output, name)),
    text(NODE.opType, opType),
    ...Object.entries(attributes).map(([name, value]) =>
      embedded(
        NODE.attribute,
        message(text(ATTRIBUTE.name, name), integer(ATTRIBUTE.int, value), integer(ATTRIBUTE.type, INT_ATTRIBUTE)),
      ),
    ),
    text(NODE.domain, domain),
  );
  const given = Object.entries(inputs).filter(([name]) => !name.startsWith('absent'));
  const graph = message(
    embedded(GRAPH.node, node),
    text(GRAPH.name, opType),
    ...given.map(([name, value]) => embedded(GRAPH.input, valueInfo(name, value))),
    ...Object.entries(outputs).map(([name, value]) => embedded(GRAPH.output, valueInfo(name, value))),
  );
  const opset = (name: string, version: number) =>
    embedded(MODEL.opsetImport, message(text(OPSET.domain, name), integer(OPSET.version, version)));
  return Uint8Array.from(
    message(integer(MODEL.irVersion, 8), embedded(MODEL.graph, graph), opset('', 17), opset(domain, 1)),
  );
}

/** Dimensions stay open, so that one model serves all sizes. */
function valueInfo(name: string, {rank, type = 'float32'}: ModelValue): number[] {
  const openDimension = embedded(1, []);
  const shape = Array.from({length: rank}, () => openDimension).flat();
  const tensorType = message(integer(TENSOR_TYPE.elementType, ELEMENT_TYPES[type]), embedded(TENSOR_TYPE.shape, shape));
  return message(text(VALUE.name, name), embedded(VALUE.type, embedded(1, tensorType)));
}

const message = (...fields: number[][]): number[] => fields.flat();

const integer = (field: number, value: number): number[] => [...varint(field << 3), ...varint(value)];

const embedded = (field: number, bytes: number[]): number[] => [
  ...varint((field << 3) | 2),
  ...varint(bytes.length),
  ...bytes,
];

const text = (field: number, value: string): number[] => embedded(field, [...new TextEncoder().encode(value)]);

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
