/** The attention ops of ONNX Runtime as models: query, key and value [B, S, H·D] give an output of that shape. */
import {type ModelValue, oneNodeModel} from './onnx_model.js';

const qkv: Record<string, ModelValue> = {query: {rank: 3}, key: {rank: 3}, value: {rank: 3}};

/** Not causal. With a bias, it takes `attentionBias` [B or 1, H, Sq, Sk] too. */
export function multiHeadAttention(heads: number, withBias = false): Uint8Array {
  const bias: Record<string, ModelValue> = {absentBias: {rank: 0}, absentMask: {rank: 0}, attentionBias: {rank: 4}};
  const inputs = withBias ? {...qkv, ...bias} : qkv;
  return oneNodeModel('MultiHeadAttention', inputs, {output: {rank: 3}}, {num_heads: heads});
}

/**
 * Always causal; with as many key as query heads and no past. It takes two lengths more: `lastKey` int32 [B], the last key of
 * each sample, and `keys`, an int32 scalar, how many there are; and gives the keys and values that a next call would take.
 */
export function groupQueryAttention(heads: number): Uint8Array {
  const lengths: Record<string, ModelValue> = {
    absentPastKey: {rank: 0},
    absentPastValue: {rank: 0},
    lastKey: {rank: 1, type: 'int32'},
    keys: {rank: 0, type: 'int32'},
  };
  const outputs = {output: {rank: 3}, presentKey: {rank: 4}, presentValue: {rank: 4}};
  return oneNodeModel('GroupQueryAttention', {...qkv, ...lengths}, outputs, {num_heads: heads, kv_num_heads: heads});
}
