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

/**
 * Cut before the last white space of a run that something else follows. GPT-2's encoding takes the rest of such a run by
 * itself, and that last character by itself or with what follows it, so no token spans both sides.
 */
function* pieces(text: string): Generator<string> {
  const cut = /\s\S/g;
  let start = 0;
  while (start < text.length) {
    cut.lastIndex = start + PIECE;
    const end = cut.exec(text)?.index ?? text.length;
    yield text.slice(start, end);
    start = end;
  }
}

function withoutBrokenEnd(text: string): string {
  return text.replace(/\uFFFD+$/, '');
}
