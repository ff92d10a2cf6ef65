/** A byte-level BPE tokenizer of a few merges, in the files of an old GPT-2 checkpoint. */

/** The characters that stand for the bytes 0 to 255 in GPT-2's vocabulary: printable ones for themselves. */
function byteCharacters(): string[] {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  return Array.from({length: 256}, (_, byte) => String.fromCharCode(printable(byte) ? byte : 256 + others++));
}

/** The first merge starts with #, as no comment does. */
const MERGES = ['# #', 't h', 'th e', 'Ġ the', 'i n', 'Ġ a', 'Ġa n', 'Ġan d', 'o r', 'w or'];

/** merges.txt. */
export const tinyMerges = `#version: 0.2\n${MERGES.join('\n')}\n`;

/** vocab.json: the bytes, what the merges make, and the end of the text. */
export const tinyVocab: Record<string, number> = Object.fromEntries(
  [...byteCharacters(), ...MERGES.map((merge) => merge.replace(' ', '')), '<|endoftext|>'].map((token, id) => [
    token,
    id,
  ]),
);
