/** Reading of converted TensorFlow graphs (GraphDef as JSON): who makes and who uses a tensor, and what constants hold. */
import {io, tidy, util} from '@tensorflow/tfjs-core';

/** An attribute of a node. Strings are base64, or lists of character codes. */
export interface AttrDef {
  s?: string | number[] | null;
  f?: number | null;
  i?: number | string | null;
  b?: boolean | null;
  list?: {s?: (string | number[])[] | null} | null;
}

/** A node of the graph. Its inputs are `node`, `node:1` for a second output, and `^node` for mere order of execution. */
export interface NodeDef {
  name: string;
  op: string;
  input?: string[];
  attr?: Record<string, AttrDef>;
}

/** Constants of more elements are tables and weights, which nothing here has to know. */
const SMALL = 16;

/** The name of the node that makes an input. */
export function nodeName(input: string): string {
  return input.replace(/^\^/, '').replace(/:.*$/, '');
}

/** A graph, by the names of its nodes. */
export class GraphReader {
  private readonly byName: Map<string, NodeDef>;
  /** The nodes that use a node, once for each of their inputs. */
  private readonly users = new Map<string, NodeDef[]>();
  private readonly outputs: ReadonlySet<string>;
  private readonly weights: Map<string, {spec: io.WeightsManifestEntry; start: number; end: number}>;
  private readonly weightBytes: io.CompositeArrayBuffer;

  /**
   * @param artifacts a graph model, its weights in memory.
   * @param fetched nodes that are outputs besides those in the signature.
   */
  constructor(
    artifacts: io.ModelArtifacts,
    readonly nodes: NodeDef[],
    fetched: string[],
  ) {
    this.byName = new Map(nodes.map((node) => [node.name, node]));
    for (const node of nodes) {
      for (const input of node.input ?? []) {
        const name = nodeName(input);
        this.users.set(name, [...(this.users.get(name) ?? []), node]);
      }
    }
    this.outputs = new Set([...signatureOutputs(artifacts), ...fetched].map(nodeName));
    this.weightBytes = new io.CompositeArrayBuffer(artifacts.weightData);
    this.weights = this.locateWeights(artifacts.weightSpecs ?? []);
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** The node that makes an input. */
  producer(input: string): NodeDef | undefined {
    return this.byName.get(nodeName(input));
  }

  /** Whether the model gives what the node makes. Without a signature it gives what no other node uses. */
  isOutput({name}: NodeDef): boolean {
    return this.outputs.has(name);
  }

  usersOf({name}: NodeDef): readonly NodeDef[] {
    return this.users.get(name) ?? [];
  }

  /** The values of a small numeric constant. */
  constant(input: string): {shape: number[]; values: number[]} | undefined {
    const node = this.producer(input);
    const weight = node?.op === 'Const' ? this.weights.get(node.name) : undefined;
    if (!weight || weight.spec.dtype === 'string' || util.sizeFromShape(weight.spec.shape) > SMALL) return undefined;
    const {spec, start, end} = weight;
    const values = tidy(() => {
      const decoded = io.decodeWeights(this.weightBytes.slice(start, end), [spec])[spec.name];
      return {numbers: Array.from(decoded.dataSync<'float32'>())};
    });
    return {shape: spec.shape, values: values.numbers};
  }

  /** Weights lie one behind the other in the order of their entries. */
  private locateWeights(specs: io.WeightsManifestEntry[]) {
    let start = 0;
    return new Map(
      specs.map((spec) => {
        const weight = {spec, start, end: start + this.byteLength(spec, start)};
        start = weight.end;
        return [spec.name, weight];
      }),
    );
  }

  private byteLength(spec: io.WeightsManifestEntry, start: number): number {
    const size = util.sizeFromShape(spec.shape);
    if (spec.quantization) return size * (spec.quantization.dtype === 'uint8' ? 1 : 2);
    if (spec.dtype !== 'string') return size * util.bytesPerElement(spec.dtype);
    // Each string stands behind its length.
    let end = start;
    for (let i = 0; i < size; i++) end += 4 + new Uint32Array(this.weightBytes.slice(end, end + 4))[0];
    return end - start;
  }
}

/** What a string attribute says, in lower case as tfjs reads it. */
export function stringOf(value: string | number[] | null | undefined): string {
  if (value == null) return '';
  return (Array.isArray(value) ? String.fromCharCode(...value) : atob(value)).toLowerCase();
}

/** Those of the signature that tfjs goes by: that of the metadata before that of the artifacts. */
function signatureOutputs({signature, userDefinedMetadata}: io.ModelArtifacts): string[] {
  const {outputs = {}} = ((userDefinedMetadata?.signature ?? signature) as Signature | undefined) ?? {};
  return Object.values(outputs ?? {}).map(({name}) => name);
}

interface Signature {
  outputs?: Record<string, {name: string}>;
}
