/** Specs of the demo's tokenizer: a long text, which it encodes piece by piece, gives the tokens of the whole. */
import {Tokenizer} from '@huggingface/tokenizers';
import {makeTokenizer} from '../../demo/tokenizer.js';
import {gpt2Files} from '../../src/convert/gpt2_files.js';
import {tinyConfig, tinySafetensors, tinyTensors} from '../convert/tiny_gpt2.js';
import {tinyVocab} from '../convert/tiny_tokenizer.js';

/** GPT-2 has tokens of several line ends, of several spaces, and of a space with a word. */
const MERGES = ['Ċ Ċ', 'ĊĊ ĊĊ', 'Ġ Ġ', 'ĠĠ ĠĠ', 'Ġ a', 'Ċ Ġ'];

async function whiteSpaceTokenizer() {
  const made = MERGES.map((merge) => merge.replace(' ', ''));
  const bytes = Object.keys(tinyVocab).slice(0, 256);
  const vocab = Object.fromEntries([...bytes, ...made, '<|endoftext|>'].map((token, id) => [token, id]));
  const {tokenizer, tokenizerConfig} = await gpt2Files([
    new File([JSON.stringify(tinyConfig)], 'config.json'),
    new File([tinySafetensors(tinyTensors())], 'model.safetensors'),
    new File([JSON.stringify(vocab)], 'vocab.json'),
    new File([`#version: 0.2\n${MERGES.join('\n')}\n`], 'merges.txt'),
  ]);
  return {tokenizer, tokenizerConfig};
}

describe("The demo's tokenizer", () => {
  for (const gap of ['\n', '\n\n', '\n\n\n\n', '\n  ', '    ', ' ', '\n \n', '\t\n']) {
    it(`encodes a long text whose words stand ${JSON.stringify(gap)} apart as a whole`, async () => {
      const files = await whiteSpaceTokenizer();
      const inPieces = await makeTokenizer({kind: 'gpt2', ...files});
      const whole = new Tokenizer(files.tokenizer, files.tokenizerConfig);
      // Words of different lengths, so that the places of the cuts differ.
      for (const word of ['ab!', '1a’s']) {
        const text = `a${gap}${word}`.repeat(12_000);
        const tokens = await inPieces.encode(text);
        expect(tokens).toEqual(Int32Array.from(whole.encode(text, {add_special_tokens: false}).ids));
      }
    });
  }
});
