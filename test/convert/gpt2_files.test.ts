/** gpt2Files: what it gets from where, the tokenizer of old checkpoints, and what it says is missing. */
import {Tokenizer} from '@huggingface/tokenizers';
import {type FileProgress, gpt2Files} from '../../src/layers/index.js';
import {tinyMerges, tinyVocab} from './tiny_tokenizer.js';

const WEIGHTS = new Uint8Array(100_000).fill(7);
const contents = {
  'config.json': '{"model_type":"gpt2"}',
  'model.safetensors': WEIGHTS,
  'tokenizer.json': '{"version":"1.0"}',
  'tokenizer_config.json': '{"model_max_length":1024}',
};
type Contents = Record<string, string | Uint8Array<ArrayBuffer>>;

const without = (...names: string[]): Contents =>
  Object.fromEntries(Object.entries(contents).filter(([name]) => !names.includes(name)));
const filesOf = (files: Contents) => Object.entries(files).map(([name, content]) => new File([content], name));

const oldContents: Contents = {
  ...without('tokenizer.json', 'tokenizer_config.json'),
  'vocab.json': JSON.stringify(tinyVocab),
  'merges.txt': tinyMerges,
};

/** Serves these files under a URL, and 404 for others. */
function serve(url: string, files: Contents, headers: Record<string, string> = {}): void {
  spyOn(globalThis, 'fetch').and.callFake(async (given) => {
    const [name, content] = Object.entries(files).find(([name]) => given === `${url}/${name}`) ?? [];
    return name ? new Response(content, {headers}) : new Response('Not found', {status: 404});
  });
}

const expected = {
  config: {model_type: 'gpt2'},
  weights: WEIGHTS.buffer,
  tokenizer: {version: '1.0'},
  tokenizerConfig: {model_max_length: 1024},
};

describe('gpt2Files', () => {
  const onTheHub = 'https://huggingface.co/openai-community/gpt2/resolve/main';
  const sources: [source: string, url: string][] = [
    ['openai-community/gpt2', onTheHub],
    ['https://huggingface.co/openai-community/gpt2', onTheHub],
    [onTheHub, onTheHub],
    [`${onTheHub}/`, onTheHub],
    ['./models/gpt2', './models/gpt2'],
    ['/models/gpt2/', '/models/gpt2'],
    ['http://localhost:8080/gpt2', 'http://localhost:8080/gpt2'],
  ];
  for (const [source, url] of sources) {
    it(`fetches ${source} from ${url}`, async () => {
      serve(url, contents);
      expect(await gpt2Files(source)).toEqual(expected);
    });
  }

  it('takes files by their names', async () => {
    expect(await gpt2Files(filesOf({'README.md': 'x', ...contents}))).toEqual(expected);
  });

  it('reports progress, with the whole where that is known', async () => {
    const last = async (source: string | File[]) => {
      const progress = new Map<string, FileProgress>();
      expect(await gpt2Files(source, {onProgress: (piece) => progress.set(piece.file, piece)})).toEqual(expected);
      return progress;
    };
    const fromFiles = await last(filesOf(contents));
    expect([...fromFiles.keys()]).toEqual([
      'config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'model.safetensors',
    ]);
    const whole = {file: 'model.safetensors', loadedBytes: 100_000, totalBytes: 100_000};
    expect(fromFiles.get('model.safetensors')).toEqual(whole);
    serve('./a', contents, {'Content-Length': '100000'});
    expect((await last('./a')).get('model.safetensors')).toEqual(whole);
  });

  it('does not take the length of compressed data for that of the file', async () => {
    serve('./a', contents, {'Content-Length': '500', 'Content-Encoding': 'gzip'});
    const totals: unknown[] = [];
    await gpt2Files('./a', {onProgress: ({totalBytes}) => totals.push(totalBytes)});
    expect(new Set(totals)).toEqual(new Set([undefined]));
  });

  it('makes a tokenizer of vocab.json and merges.txt', async () => {
    const {tokenizer, tokenizerConfig} = await gpt2Files(filesOf(oldContents));
    const bpe = new Tokenizer(tokenizer, tokenizerConfig);
    const tokensOf = (text: string) => bpe.encode(text, {add_special_tokens: false}).tokens;
    expect(tokensOf('in the word, and')).toEqual(['in', 'Ġthe', 'Ġ', 'wor', 'd', ',', 'Ġand']);
    expect(tokensOf('##')).toEqual(['##']);
    expect(tokensOf('a<|endoftext|>')).toEqual(['a', '<|endoftext|>']);
    const text = "Über the  wörld , isn't\n\tit ?";
    const {ids} = bpe.encode(text, {add_special_tokens: false});
    expect(ids.every((id) => id < Object.keys(tinyVocab).length)).toBeTrue();
    expect(bpe.decode(ids)).toBe(text);
  });

  it('reads merges.txt with line ends of Windows', async () => {
    const fromWindows = {...oldContents, 'merges.txt': tinyMerges.replaceAll('\n', '\r\n')};
    const [{tokenizer}, {tokenizer: same}] = [
      await gpt2Files(filesOf(fromWindows)),
      await gpt2Files(filesOf(oldContents)),
    ];
    expect(tokenizer).toEqual(same);
  });

  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json']) {
    it(`says that ${name} is missing`, async () => {
      const names = Object.keys(without(name)).join(', ');
      const or = name === 'tokenizer.json' ? ' and no vocab.json' : '';
      await expectAsync(gpt2Files(filesOf(without(name)))).toBeRejectedWithError(
        `gpt2Files: there is no ${name}${or}: among the files ${names}.`,
      );
      serve('./a', without(name));
      await expectAsync(gpt2Files('./a')).toBeRejectedWithError(
        `gpt2Files: there is no ${name}${or}: ./a/${name} (HTTP status 404).`,
      );
    });
  }

  it('says that merges.txt is missing beside a vocab.json', async () => {
    const {'merges.txt': _, ...files} = oldContents;
    await expectAsync(gpt2Files(filesOf(files))).toBeRejectedWithError(/^gpt2Files: there is no merges\.txt: among /);
  });

  it('says which file is not JSON', async () => {
    const notJson = (name: string, text: string) => gpt2Files(filesOf({...contents, [name]: text}));
    await expectAsync(notJson('config.json', '<html>')).toBeRejectedWithError(/^gpt2Files: config\.json is not JSON: /);
    await expectAsync(notJson('tokenizer.json', 'null')).toBeRejectedWithError(
      /tokenizer\.json must be an object, got null/,
    );
  });

  it('gives the URL and status of a request that failed', async () => {
    const fetched = spyOn(globalThis, 'fetch').and.resolveTo(new Response('', {status: 401}));
    await expectAsync(gpt2Files('who/what')).toBeRejectedWithError(
      'gpt2Files: https://huggingface.co/who/what/resolve/main/config.json cannot be fetched: HTTP status 401.',
    );
    fetched.and.rejectWith(new TypeError('Failed to fetch'));
    await expectAsync(gpt2Files('./a')).toBeRejectedWithError(
      'gpt2Files: ./a/config.json cannot be fetched: Failed to fetch.',
    );
  });
});
