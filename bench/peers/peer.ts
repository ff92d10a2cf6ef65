/** Attention of another library, on a WebGPU device that it made itself. Its tensors have the shape [B, S, H, D]. */
import type {AttentionProblem} from '../cases.js';
import type {InputValues} from '../page/inputs.js';

export interface Peer {
  device: GPUDevice;
  /** Puts values on the GPU; `weights` are the output's gradient. */
  prepare(values: InputValues): PreparedPeer | Promise<PreparedPeer>;
}

export interface PreparedPeer {
  /** Hands a call to the GPU and does not wait for it: `output`, and `dq`, `dk` and `dv` where they are asked for. */
  call(): Promise<PeerResults>;
  /** Frees the values. */
  dispose(): void;
}

export type PeerResults = Record<string, PeerTensor>;

export interface PeerTensor {
  read(): Promise<Float32Array>;
  dispose(): void;
}

/** Starts the library, and its device, for one problem. */
export type OpenPeer = (problem: AttentionProblem) => Promise<Peer>;
