/**
 * Attention on a backend without kernels of its own goes over the queries chunk by chunk, so that no more than a
 * chunk's rows of scores exist at a time. This file says what a chunk is and puts the chunks' results together.
 */
import {add, concat, dispose, type Tensor, tidy} from '@tensorflow/tfjs-core';
import type {AttentionSizes} from '../attention_sizes.js';

/** The query rows [begin, begin + rows) of every batch and head. */
export interface QueryChunk {
  begin: number;
  rows: number;
}

/** What a chunk adds to the results: rows of its own, along axis 2, and terms of sums over all queries. */
export type Contribution = {
  rows: Tensor[];
  terms: Tensor[];
};

/** How large chunks are. Replaced by tests, which want chunk boundaries at small sizes. */
export const chunkSize = {
  /** Scores of a chunk, over all batches and heads: 1 MiB of float32, which stays in a CPU's cache. */
  scores: 2 ** 18,
  /** Below this many rows the matrix products degenerate to dot products. Still linear in S: S·B·H·8 scores. */
  minRows: 8,
};

function* queryChunks({batch, heads, queries, keys}: AttentionSizes): Generator<QueryChunk> {
  const step = Math.max(chunkSize.minRows, Math.floor(chunkSize.scores / (batch * heads * keys)));
  for (let begin = 0; begin < queries; begin += step) yield {begin, rows: Math.min(step, queries - begin)};
}

/** Joins the rows and adds up the terms of all chunks; everything else that `contribute` makes is freed chunk by chunk. */
export function overQueryChunks(sizes: AttentionSizes, contribute: (chunk: QueryChunk) => Contribution): Contribution {
  const rows: Tensor[][] = [];
  let sums: Tensor[] = [];
  for (const chunk of queryChunks(sizes)) {
    const next = tidy(() => {
      const own = contribute(chunk);
      return {rows: own.rows, terms: own.terms.map((term, i) => (chunk.begin === 0 ? term : add(sums[i], term)))};
    });
    dispose(sums);
    sums = next.terms;
    rows.push(next.rows);
  }
  return {rows: rows[0].map((_, i) => joinRows(rows.map((ofChunk) => ofChunk[i]))), terms: sums};
}

function joinRows(parts: Tensor[]): Tensor {
  const joined = concat(parts, 2);
  dispose(parts);
  return joined;
}
