/** The command line of the benchmark. */
import {parseArgs} from 'node:util';
import {backendNames, depths, type Filter, kinds, passes, precisions, type SuiteName, suiteNames} from './cases.js';
import {readTrials, type TileTrial} from './tune/tile_trial.js';

export interface Options {
  filter: Filter;
  /** By default the adapter decides. */
  suite?: SuiteName;
  limitSeconds?: number;
  allowSoftware: boolean;
  stockDevice: boolean;
  profile: boolean;
  /** Whether other libraries are measured too. */
  peers: boolean;
  /** Folder of the results. */
  out: string;
  /** Goes into the names of the files. */
  label?: string;
  /** Sizes of kernels to try instead of comparing contenders. */
  trials: TileTrial[];
}

export const usage = `Usage: npm run bench -- [options]

  --suite software|gpu   what to measure; by default the adapter decides
  --kind a,b             attention, decode, sparse attention, product, layer, butterfly, monarch, dense product, training, gpt, gpt mlp
  --backend a,b          webgpu, webgl
  --sizes n,n            sequence lengths S (also of kinds decode and gpt), sizes of matrices, widths of models
  --depths n,n           head dimensions D: 64, 128
  --pass a,b             forward, forward+backward
  --causal yes|no        only with or only without the causal mask
  --precision name       of attention: highest, or fast, which multiplies in float16 where the GPU can
  --only text            only cases whose name contains the text, for example 'webgpu forward full'
  --limit seconds        time limit of one case
  --stock-device         measure on tfjs's own WebGPU device, with no optional feature
  --allow-software       go on where GPU_FLAGS is set and yet a software GPU answers
  --out folder           where the results go
  --label text           goes into the names of their files
  --peers                also measure onnxruntime-web and jax-js (attention on WebGPU)
  --profile              print where the time on the GPU goes, kernel by kernel (WebGPU)
  --width n              of kind gpt: the model's width
  --tokens n             rows of a batch of kinds gpt, butterfly, monarch and dense product
  --tiles list           try these sizes of the WebGPU kernels, ours only (see bench/tune/tile_trial.ts)

Environment: CHROME_BIN, the browser; GPU_FLAGS, its flags on a machine with a GPU (by default those of a software GPU).`;

export function readOptions(args: string[]): Options | 'help' {
  const {values} = parseArgs({
    args,
    options: {
      help: {type: 'boolean', default: false},
      suite: {type: 'string'},
      kind: {type: 'string'},
      backend: {type: 'string'},
      sizes: {type: 'string'},
      depths: {type: 'string'},
      pass: {type: 'string'},
      causal: {type: 'string'},
      precision: {type: 'string', default: 'highest'},
      only: {type: 'string'},
      limit: {type: 'string'},
      'stock-device': {type: 'boolean', default: false},
      'allow-software': {type: 'boolean', default: false},
      out: {type: 'string', default: 'bench-results'},
      label: {type: 'string'},
      tiles: {type: 'string'},
      profile: {type: 'boolean', default: false},
      peers: {type: 'boolean', default: false},
      width: {type: 'string'},
      tokens: {type: 'string'},
    },
  });
  if (values.help) return 'help';
  return {
    filter: {
      kinds: choices('kind', values.kind, kinds),
      backends: choices('backend', values.backend, backendNames),
      sizes: values.sizes === undefined ? undefined : numbers('sizes', values.sizes),
      depths: values.depths === undefined ? depths : numbers('depths', values.depths),
      passes: choices('pass', values.pass, passes),
      causal: choices('causal', values.causal, ['no', 'yes']).map((word) => word === 'yes'),
      precision: choices('precision', values.precision, precisions)[0],
      only: values.only,
      gptWidth: values.width === undefined ? undefined : numbers('width', values.width)[0],
      tokens: values.tokens === undefined ? undefined : numbers('tokens', values.tokens)[0],
    },
    suite: values.suite === undefined ? undefined : choices('suite', values.suite, suiteNames)[0],
    limitSeconds: values.limit === undefined ? undefined : numbers('limit', values.limit)[0],
    allowSoftware: values['allow-software'],
    stockDevice: values['stock-device'],
    profile: values.profile,
    peers: values.peers,
    out: values.out,
    label: values.label,
    trials: values.tiles === undefined ? [] : readTrials(values.tiles),
  };
}

function choices<T extends string>(option: string, text: string | undefined, allowed: readonly T[]): T[] {
  if (text === undefined) return [...allowed];
  return text.split(',').map((word) => {
    const found = allowed.find((name) => name === word);
    if (found === undefined) throw new Error(`--${option} takes ${allowed.join(' or ')}, not '${word}'.`);
    return found;
  });
}

function numbers(option: string, text: string): number[] {
  return text.split(',').map((word) => {
    const value = Number(word);
    if (!(value > 0)) throw new Error(`--${option} takes positive numbers, not '${word}'.`);
    return value;
  });
}
