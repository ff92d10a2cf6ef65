/** The command line of the pretraining. */
import {parseArgs} from 'node:util';
import {MLP_KINDS, type Settings} from './pretraining.js';

export interface Options {
  settings: Settings;
  /** Folder of the model's files. */
  out: string;
  allowSoftware: boolean;
}

export const usage = `Usage: npm run pretrain -- [options]

  --layers n, --heads n, --width n   of the model: 4, 4, 256
  --mlp kind         of the feed-forward nets: dense, pixelfly or monarch; dense
  --context n        bytes that the model sees, and that it is trained on at once: 1024
  --batch n          stretches of text in a step: 32
  --steps n          6000
  --rate n           peak of the learning rate: 0.001
  --bytes n          train on the first so many bytes of the text, all by default
  --minutes n        fail when it takes longer, early if that can be seen early
  --out folder       where the model goes
  --text file        a text from scripts/pretrain/collect_text.js; by default it is collected
  --pack folder      train nothing: pack all that it needs but Node.js and a browser, to run there as node run.mjs
  --allow-software   go on where GPU_FLAGS is set and yet a software GPU answers

Environment: CHROME_BIN, the browser; GPU_FLAGS, its flags on a machine with a GPU (by default those of a software GPU).`;

export function readOptions(args: string[]): Options | 'help' {
  const text = (value: string) => ({type: 'string' as const, default: value});
  const {values} = parseArgs({
    args,
    options: {
      help: {type: 'boolean', default: false},
      layers: text('4'),
      heads: text('4'),
      width: text('256'),
      mlp: text('dense'),
      context: text('1024'),
      batch: text('32'),
      steps: text('6000'),
      rate: text('0.001'),
      bytes: {type: 'string'},
      minutes: {type: 'string'},
      out: text('gpt'),
      'allow-software': {type: 'boolean', default: false},
    },
  });
  if (values.help) return 'help';
  const settings = {
    layers: count('layers', values.layers),
    heads: count('heads', values.heads),
    width: count('width', values.width),
    mlp: mlpKind(values.mlp),
    context: count('context', values.context),
    batch: count('batch', values.batch),
    steps: count('steps', values.steps),
    rate: positive('rate', values.rate),
    bytes: values.bytes === undefined ? undefined : count('bytes', values.bytes),
    minutes: values.minutes === undefined ? undefined : positive('minutes', values.minutes),
  };
  return {settings, out: values.out, allowSoftware: values['allow-software']};
}

function mlpKind(text: string): Settings['mlp'] {
  const kind = MLP_KINDS.find((name) => name === text);
  if (!kind) throw new Error(`--mlp takes one of ${MLP_KINDS.join(', ')}, not '${text}'.`);
  return kind;
}

function count(option: string, text: string): number {
  const value = positive(option, text);
  if (!Number.isInteger(value)) throw new Error(`--${option} takes a whole number, not '${text}'.`);
  return value;
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
    throw new Error(`--${option} takes a positive number, not '${text}'.`);
  }
  return value;
}
