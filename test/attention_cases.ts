/** The grid of attention calls that every backend is tested on, as data. */

declare const FULL_GRID: boolean;

/** One attention call. Shapes are given by letters: see the op's documentation. */
export interface AttentionCase {
  B: number;
  H: number;
  Hk: number;
  Sq: number;
  Sk: number;
  D: number;
  Dv: number;
  causal?: boolean;
  window?: [number, number];
  softcap?: number;
  scale?: number;
  order?: 'BHSD' | 'BSHD';
  rank3?: boolean;
  dropout?: {rate: number; seed: number};
  precision?: 'highest' | 'fast';
  /** Axes of [B, H, Sq, Sk] along which bias or mask is broadcast; leading axes may be missing altogether. */
  bias?: Broadcast;
  mask?: Broadcast;
  alibi?: 'H' | 'BH';
  layout?: LayoutCase;
  queryLengths?: number[];
  keyLengths?: number[];
  /** Standard deviations of q, k and v; 1 by default. */
  gain?: [number, number, number];
}

/** A pattern without regularity, in which rows and columns may be empty. */
export interface LayoutCase {
  blockSize: [number, number];
  /** The part of blocks that lives. */
  density: number;
  /** Whether each head has a pattern of its own. */
  perHead?: boolean;
}

/** 'B', 'H', 'Q' and 'K' where the axis is full; absent letters have size 1. */
export type Broadcast = string;

const base = {B: 1, H: 2, Hk: 2, D: 16, Dv: 16};

const pairs = (list: [number, number][]) => list.map(([Sq, Sk]) => ({...base, Sq, Sk}));

const shapes = pairs([
  [1, 1],
  [1, 239],
  [239, 1],
  [3, 799],
  [64, 128],
  [113, 203],
  [129, 129],
]);
const moreShapes = pairs([
  [799, 3],
  [128, 217],
  [113, 211],
  [108, 256],
  [127, 512],
  [127, 513],
  [256, 512],
  [512, 256],
  [384, 256],
  [1023, 1024],
  [1024, 1023],
  [1024, 1024],
  [2048, 2048],
  [200, 200],
  [255, 255],
  [300, 300],
  [333, 444],
  [500, 512],
  [512, 500],
  [1, 339],
  [3, 1024],
  [64, 800],
  [1, 16384],
]);

const depths = [1, 40, 59, 64, 128, 256].map((D) => ({...base, Sq: 33, Sk: 65, D, Dv: D, causal: true}));
const moreDepths = [2, 3, 5, 16, 32, 80, 96, 111, 160, 192, 224].map((D) => ({...base, Sq: 65, Sk: 97, D, Dv: D}));

const small = {...base, B: 2, Sq: 37, Sk: 53};

/** Options that compose, but for a layout and for those that depend on the sizes: a window and lengths. */
const composed = {
  order: 'BSHD',
  softcap: 4,
  alibi: 'BH',
  bias: 'HQK',
  mask: 'BHQK',
  dropout: {rate: 0.17, seed: 7},
} as const;

/** Every option that composes, but for a layout. */
const everyOption: AttentionCase = {
  ...small,
  H: 4,
  Hk: 2,
  D: 20,
  Dv: 12,
  ...composed,
  window: [21, 6],
  queryLengths: [30, 37],
  keyLengths: [53, 33],
  scale: 0.3,
};

/**
 * Options that are uniforms of the WebGPU shaders: these cases share two variants, without and with a head table, and
 * {@link everyOption} has one of its own.
 */
const options: AttentionCase[] = [
  {...small, H: 6, Hk: 2, causal: true},
  {...small, H: 6, Hk: 1},
  {...small, B: 1, rank3: true, causal: true},
  {...small, scale: 0.5},
  {...small, scale: 0},
  {...small, window: [5, 3]},
  {...small, window: [-1, 4]},
  {...small, window: [7, -1]},
  {...small, window: [9, 9], causal: true},
  {...small, Sq: 53, Sk: 37, causal: true},
  {...small, Sq: 53, Sk: 37, window: [0, 0]},
  {...small, alibi: 'H', causal: true},
  {...small, alibi: 'BH'},
  {...small, queryLengths: [37, 11], keyLengths: [53, 20]},
  {...small, queryLengths: [0, 37], keyLengths: [10, 0]},
  {...small, keyLengths: [1, 53], causal: true},
  {...small, queryLengths: [20, 5], causal: true},
  everyOption,
];

const middle = {...base, Sq: 33, Sk: 65};
const denseColumns: LayoutCase = {blockSize: [8, 16], density: 0.5};

/**
 * What WebGPU compiles shaders for: order, bias, mask, head table (slopes or lengths), softcap, dropout, layout. With the
 * variants of {@link options} and {@link everyOption} under a layout, any three of the seven occur in all eight
 * combinations. Each variant has a depth of its own, and each layout a block size: larger and smaller than the kernels'
 * tiles, and such that tiles cut through blocks. Several cases of a variant differ in what is not compiled, but for the
 * gradient of the bias, whose kernel depends on the axes that share it.
 */
const variants: AttentionCase[] = [
  // order, dropout, layout
  {
    ...small,
    H: 6,
    order: 'BSHD',
    causal: true,
    Dv: 20,
    dropout: {rate: 0.5, seed: 4294967295},
    layout: {blockSize: [16, 16], density: 0.4, perHead: true},
  },
  {...small, order: 'BSHD', Dv: 20, dropout: {rate: 0.17, seed: 42}, layout: {blockSize: [16, 16], density: 0}},
  // mask, softcap, dropout
  {
    ...middle,
    D: 256,
    Dv: 256,
    mask: 'BHQK',
    softcap: 50,
    gain: [50, 1, 1],
    causal: true,
    dropout: {rate: 0.17, seed: 42},
  },
  // mask, head table, layout
  {...small, mask: 'QK', keyLengths: [53, 20], causal: true, layout: {blockSize: [7, 9], density: 0.3, perHead: true}},
  // bias, head table, dropout
  {...small, D: 1, Dv: 1, bias: 'BHQK', keyLengths: [53, 20], dropout: {rate: 0.17, seed: 42}},
  {...small, D: 1, Dv: 1, bias: 'K', keyLengths: [53, 20], causal: true, dropout: {rate: 0.17, seed: 42}},
  // order, bias, softcap
  {...small, B: 1, rank3: true, order: 'BSHD', D: 24, Dv: 7, bias: 'HQK', softcap: 3, causal: true},
  {...small, order: 'BSHD', D: 24, Dv: 7, bias: 'BK', softcap: 3},
  // order, head table, softcap, layout
  {
    ...small,
    Sq: 150,
    Sk: 140,
    D: 128,
    Dv: 128,
    order: 'BSHD',
    queryLengths: [150, 70],
    softcap: 5,
    layout: {blockSize: [64, 64], density: 0.5},
  },
  // order, mask, head table, dropout
  {
    ...middle,
    B: 2,
    H: 4,
    D: 64,
    Dv: 64,
    order: 'BSHD',
    mask: 'BK',
    queryLengths: [33, 11],
    dropout: {rate: 0.5, seed: 4294967295},
    causal: true,
  },
  // order, bias, mask, layout
  {...small, order: 'BSHD', D: 59, Dv: 59, bias: 'QK', mask: 'H', causal: true, layout: denseColumns},
  {...small, order: 'BSHD', D: 59, Dv: 59, bias: 'HQK', mask: 'BK', layout: denseColumns},
  // bias, softcap, dropout, layout
  {
    ...small,
    Sq: 130,
    Sk: 260,
    Dv: 40,
    causal: true,
    bias: 'HQ',
    softcap: 5,
    dropout: {rate: 0.17, seed: 42},
    layout: {blockSize: [32, 64], density: 0.5},
  },
  // bias, mask, head table, softcap
  {...small, D: 40, Dv: 40, bias: '', mask: 'BK', softcap: 5, queryLengths: [20, 5]},
  {...small, D: 40, Dv: 40, bias: 'BH', mask: 'QK', softcap: 5, keyLengths: [1, 53], causal: true},
  {...everyOption, layout: {blockSize: [8, 8], density: 0.6, perHead: true}},
];

/** One feature at a time. */
const moreOptions: AttentionCase[] = [
  {...small, Dv: 40},
  {...small, D: 24, Dv: 7},
  {...small, H: 6, Hk: 2, order: 'BSHD', causal: true, Dv: 20},
  {...small, B: 1, rank3: true, order: 'BSHD', bias: 'HQK'},
  {...small, softcap: 50, gain: [50, 1, 1]},
  {...small, softcap: 3, causal: true},
  {...small, bias: 'BHQK'},
  {...small, bias: 'HQK', causal: true},
  {...small, bias: 'QK'},
  {...small, bias: 'K'},
  {...small, bias: 'BK'},
  {...small, bias: 'BH'},
  {...small, bias: 'HQ'},
  {...small, bias: ''},
  {...small, mask: 'BHQK'},
  {...small, mask: 'QK', causal: true},
  {...small, mask: 'BK'},
  {...small, mask: 'H'},
  {...small, bias: 'HQK', mask: 'BK', softcap: 5},
  {...small, dropout: {rate: 0.17, seed: 42}},
  {...small, dropout: {rate: 0.5, seed: 4294967295}, causal: true, H: 4, Hk: 2},
];

/**
 * Few queries and many keys, which WebGPU cuts into chunks: some with a rest, some without a visible key, and rows of
 * several heads side by side. The shaders of their gradients are those of cases above.
 */
const fewQueries: AttentionCase[] = [
  {
    ...base,
    H: 1,
    Hk: 1,
    Sq: 1,
    Sk: 4200,
    D: 64,
    Dv: 64,
    order: 'BSHD',
    mask: 'K',
    keyLengths: [4100],
    dropout: {rate: 0.17, seed: 42},
  },
  {...base, B: 2, H: 6, Sq: 2, Sk: 777, causal: true, keyLengths: [777, 3]},
  {...everyOption, Sq: 5, Sk: 790, window: [600, 6], queryLengths: [3, 5], keyLengths: [790, 533]},
  {
    ...base,
    H: 4,
    Sq: 16,
    Sk: 1030,
    D: 40,
    Dv: 40,
    bias: 'K',
    mask: 'HQK',
    softcap: 5,
    keyLengths: [1000],
    causal: true,
    window: [700, 0],
  },
];
/** With few features, and so with a shader of their own. */
const fewFeatures: AttentionCase[] = [
  {...base, H: 1, Hk: 1, Sq: 1, Sk: 4200, D: 64, Dv: 64},
  {...base, H: 4, Sq: 16, Sk: 1030, mask: 'HQK', causal: true, window: [700, 0]},
];
const moreFewQueries = [1, 2, 5, 16].flatMap((Sq) =>
  [512, 1025, 3000].flatMap((Sk): AttentionCase[] => [
    {...base, Sq, Sk, D: 128, Dv: 128},
    {...base, B: 2, H: 12, Sq, Sk, causal: true, order: 'BSHD', keyLengths: [Sk, 300]},
    {...base, B: 2, Sq, Sk, D: 64, Dv: 7, bias: 'HQK', mask: 'BK', queryLengths: [Sq, 0]},
    {...base, H: 9, Hk: 1, Sq, Sk, D: 59, Dv: 256, gain: [5, 3, 3], window: [280, 3]},
    {...everyOption, Sq, Sk, window: [Sk - 50, 6], queryLengths: [1, Sq], keyLengths: [Sk - 7, 400]},
  ]),
);

/** Scores that would overflow exp in float32 without the running maximum, and rows that see one key. */
const overflow = [1, 2, 5, 17, 128].flatMap((S): AttentionCase[] => [
  {...base, Sq: S, Sk: S, gain: [5, 3, 3], causal: true},
  {...base, B: 2, Sq: S, Sk: S, gain: [5, 3, 3], keyLengths: [1, S]},
]);

/** causal × window × softcap × ALiBi × dropout × lengths, on several shapes and head counts. */
const combinations = [
  {Sq: 113, Sk: 203},
  {Sq: 203, Sk: 113},
].flatMap((shape) =>
  [false, true].flatMap((causal) =>
    [undefined, [17, 5] as [number, number]].flatMap((window) =>
      [0, 50].flatMap((softcap) =>
        [undefined, 'H' as const].flatMap((alibi) =>
          [undefined, {rate: 0.17, seed: 3}].flatMap((dropout) =>
            [false, true].flatMap((lengths) =>
              [
                [6, 6],
                [6, 2],
                [6, 1],
              ].map(
                ([H, Hk]): AttentionCase => ({
                  ...base,
                  ...shape,
                  B: 2,
                  H,
                  Hk,
                  causal,
                  softcap,
                  gain: softcap ? [50, 1, 1] : undefined,
                  ...(window && {window}),
                  ...(alibi && {alibi}),
                  ...(dropout && {dropout}),
                  ...(lengths && {queryLengths: [shape.Sq, 40], keyLengths: [70, shape.Sk]}),
                }),
              ),
            ),
          ),
        ),
      ),
    ),
  ),
);

/** One feature at a time, one block for all, and a bias of its own shape. */
const layouts: AttentionCase[] = [
  {...small, layout: {blockSize: [16, 16], density: 0.4}},
  {...small, Sq: 150, Sk: 140, layout: {blockSize: [64, 64], density: 0.5}},
  {...small, Sq: 130, Sk: 260, causal: true, layout: {blockSize: [32, 64], density: 0.5}},
  {...small, H: 6, Hk: 2, layout: {blockSize: [8, 8], density: 0.3, perHead: true}},
  {...small, layout: {blockSize: [7, 9], density: 0.5}, causal: true},
  {...small, layout: {blockSize: [16, 16], density: 0}},
  {...small, bias: 'HQK', mask: 'BK', layout: {blockSize: [8, 16], density: 0.5}},
  {...small, layout: {blockSize: [128, 128], density: 1}},
  {...small, bias: 'K', alibi: 'BH', layout: {blockSize: [16, 8], density: 0.5, perHead: true}},
];

/** Every shape with layouts of every block size. */
const layoutsOfAllSizes = [
  ...shapes,
  ...pairs([
    [203, 113],
    [333, 444],
    [512, 500],
  ]),
].flatMap((shape) =>
  [8, 16, 32, 64, 128].flatMap((size) =>
    [0.25, 0.5].flatMap((density) =>
      [false, true].map(
        (causal): AttentionCase => ({...shape, causal, layout: {blockSize: [size, size], density, perHead: causal}}),
      ),
    ),
  ),
);

/** Everything at once, for kernels of GPUs: with more rows than their tiles have, none of them whole vec4s. */
export const everythingOnGpu: AttentionCase = {
  ...base,
  B: 2,
  Hk: 1,
  Sq: 70,
  Sk: 90,
  D: 18,
  Dv: 12,
  ...composed,
  window: [41, 6],
  queryLengths: [30, 70],
  keyLengths: [90, 53],
};

/** A sample of the grid, or all of it in a full run. */
export const attentionCases: AttentionCase[] = [
  ...shapes,
  ...options,
  ...variants,
  ...fewQueries,
  ...overflow,
  ...(FULL_GRID
    ? [
        ...moreShapes,
        ...depths,
        ...moreDepths,
        ...moreOptions,
        ...fewFeatures,
        ...moreFewQueries,
        ...combinations,
        ...layouts,
        ...layoutsOfAllSizes,
      ]
    : []),
];

export function describeCase(attentionCase: AttentionCase): string {
  const {B, H, Hk, Sq, Sk, D, Dv, ...rest} = attentionCase;
  const shape = `B ${B} H ${H}/${Hk} S ${Sq}×${Sk} D ${D}/${Dv}`;
  const set = Object.entries(rest).filter(([, value]) => value !== undefined && value !== 0 && value !== false);
  return [shape, ...set.map(([name, value]) => `${name} ${JSON.stringify(value)}`)].join(' ');
}
