/** Text to tokens and back: bytes, or the byte-pair encoding of a GPT-2 checkpoint. */
import {nextTask} from '../src/generation/next_task.js';

/** What a tokenizer is made of; it can be kept and saved. */
export type TokenizerDescription = {kind: 'bytes'} | {kind: 'gpt2'; tokenizer: object; tokenizerConfig: object};

export interface TextTokenizer {
  /** What a token is called, in the singular. */
  readonly unit: 'byte' | 'token';
  encode(text: string): Promise<Int32Array>;
  /** A text that breaks off inside a character loses that piece. */
  decode(tokens: readonly number[]): string;
}

/** Characters that are encoded before the page gets its turn. */
const PIECE = 50_000;

export async function makeTokenizer(description: TokenizerDescription): Promise<TextTokenizer> {
  if (description.kind === 'bytes') return bytes;
  const {Tokenizer} = await import('@huggingface/tokenizers');
  const tokenizer = new Tokenizer(description.tokenizer, description.tokenizerConfig);
  return {
    unit: 'token',
    async encode(text) {
      const tokens: number[] = [];
      for (const piece of pieces(text)) {
        for (const id of tokenizer.encode(piece, {add_special_tokens: false}).ids) tokens.push(id);
        await nextTask();
      }
      return Int32Array.from(tokens);
    },
    decode: (tokens) => withoutBrokenEnd(tokens.length === 0 ? '' : tokenizer.decode([...tokens])),
  };
}

const bytes: TextTokenizer = {
  unit: 'byte',
  encode: async (text) => Int32Array.from(new TextEncoder().encode(text)),
  decode: (tokens) => withoutBrokenEnd(new TextDecoder().decode(Uint8Array.from(tokens))),
};

/** Cut after line ends, where no token of text spans both sides. */
function* pieces(text: string): Generator<string> {
  let start = 0;
  while (start < text.length) {
    const lineEnd = text.indexOf('\n', start + PIECE);
    const end = lineEnd < 0 ? text.length : lineEnd + 1;
    yield text.slice(start, end);
    start = end;
  }
}

function withoutBrokenEnd(text: string): string {
  return text.replace(/\uFFFD+$/, '');
}
