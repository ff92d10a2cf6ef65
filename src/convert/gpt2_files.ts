/** `gpt2Files`: the files of a GPT-2 checkpoint, from the web or from files that the user chose. */

/** What {@link gpt2Files} resolves to: what `loadGpt2` takes, and what a tokenizer is made of. */
export interface Gpt2Files {
  /** Parsed config.json. */
  config: object;
  /** model.safetensors. */
  weights: ArrayBuffer;
  /** Parsed tokenizer.json, or the same made of vocab.json and merges.txt. */
  tokenizer: object;
  /** Parsed tokenizer_config.json; without that file, one that decodes tokens to exactly the text they were made of. */
  tokenizerConfig: object;
}

/** How much of a file has come. */
export interface FileProgress {
  file: string;
  loadedBytes: number;
  /** Unknown where the server does not say it. */
  totalBytes?: number;
}

/** Options of {@link gpt2Files}. */
export interface Gpt2FilesOptions {
  /** Called with each piece of each file. */
  onProgress?: (progress: FileProgress) => void;
}

interface Folder {
  /** The file of this name, or undefined if there is none. */
  open(name: string): Promise<Response | undefined>;
  /** Where that was looked for. */
  place(name: string): string;
}

/**
 * Gets the files of a GPT-2 checkpoint in Hugging Face's layout: config.json, model.safetensors, tokenizer.json (or, as in
 * old checkpoints, vocab.json and merges.txt) and, where there is one, tokenizer_config.json.
 *
 * The parsed JSON is what the constructor of a tokenizer takes, as that of `@huggingface/tokenizers` does:
 * `new Tokenizer(tokenizer, tokenizerConfig)`.
 *
 * ```js
 * const contents = {
 *   'config.json': '{"model_type": "gpt2"}',
 *   'model.safetensors': new Uint8Array(8),
 *   'vocab.json': '{"a": 0, "b": 1, "ab": 2}',
 *   'merges.txt': 'a b',
 * };
 * const files = Object.entries(contents).map(([name, content]) => new File([content], name));
 * const {config, weights, tokenizer} = await tf.gpt2Files(files);
 * console.log(config.model_type, weights.byteLength, tokenizer.model.type); // [gpt2] [8] [BPE]
 * ```
 *
 * @param source the URL of the folder (`https://huggingface.co/openai-community/gpt2/resolve/main`, `./models/gpt2`), the id
 *     of a model on Hugging Face (`openai-community/gpt2`), or files such as those of a drop or an `<input type="file">`.
 * @param options see {@link Gpt2FilesOptions}.
 * @throws Error that names the file that is missing, is not JSON or could not be fetched, with the URL and HTTP status.
 */
export async function gpt2Files(
  source: string | Iterable<File>,
  {onProgress}: Gpt2FilesOptions = {},
): Promise<Gpt2Files> {
  const folder = typeof source === 'string' ? remoteFolder(source) : localFolder(source);
  const open = async (name: string) => {
    const response = await folder.open(name);
    return response && onProgress ? withProgress(response, name, onProgress) : response;
  };
  const config = await parseJson('config.json', await required(folder, 'config.json', open));
  const tokenizer = await readTokenizer(folder, open);
  const tokenizerConfigFile = await open('tokenizer_config.json');
  const tokenizerConfig = tokenizerConfigFile
    ? await parseJson('tokenizer_config.json', tokenizerConfigFile)
    : {clean_up_tokenization_spaces: false};
  // Last, so that half a gigabyte is not fetched in vain.
  const weights = await (await required(folder, 'model.safetensors', open)).arrayBuffer();
  return {config, weights, tokenizer, tokenizerConfig};
}

function remoteFolder(source: string): Folder {
  const [, id] = /^(?:https:\/\/huggingface\.co\/)?([\w-][\w.-]*\/[\w.-]+)\/?$/.exec(source) ?? [];
  const url = id ? `https://huggingface.co/${id}/resolve/main` : source.replace(/\/$/, '');
  const place = (name: string) => `${url}/${name}`;
  const open = async (name: string) => {
    let response: Response;
    try {
      response = await fetch(place(name));
    } catch (cause) {
      throw new Error(`gpt2Files: ${place(name)} cannot be fetched: ${(cause as Error).message}.`, {cause});
    }
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`gpt2Files: ${place(name)} cannot be fetched: HTTP status ${response.status}.`);
    return response;
  };
  return {open, place: (name) => `${place(name)} (HTTP status 404)`};
}

function localFolder(source: Iterable<File>): Folder {
  const files = new Map(Array.from(source, (file) => [file.name, file]));
  const open = async (name: string) => {
    const file = files.get(name);
    return file && new Response(file, {headers: {'Content-Length': `${file.size}`}});
  };
  return {open, place: () => `among the files ${[...files.keys()].join(', ') || '(none)'}`};
}

function withProgress(response: Response, file: string, onProgress: (progress: FileProgress) => void): Response {
  // Of a compressed file the length is that of what is sent rather than of what arrives here.
  const length = response.headers.has('Content-Encoding') ? null : response.headers.get('Content-Length');
  const totalBytes = length === null ? undefined : Number(length);
  let loadedBytes = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      loadedBytes += chunk.byteLength;
      onProgress({file, loadedBytes, totalBytes});
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body?.pipeThrough(counter));
}

type Open = Folder['open'];

async function required(folder: Folder, name: string, open: Open): Promise<Response> {
  return (await open(name)) ?? missing(name, folder);
}

function missing(name: string, folder: Folder, otherwise = ''): never {
  throw new Error(`gpt2Files: there is no ${name}${otherwise}: ${folder.place(name)}.`);
}

async function parseJson(name: string, response: Response): Promise<object> {
  const text = await response.text();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Error(`gpt2Files: ${name} is not JSON: ${(cause as Error).message}.`, {cause});
  }
  if (typeof value !== 'object' || value === null)
    throw new Error(`gpt2Files: ${name} must be an object, got ${text}.`);
  return value;
}

async function readTokenizer(folder: Folder, open: Open): Promise<object> {
  const file = await open('tokenizer.json');
  if (file) return parseJson('tokenizer.json', file);
  const vocab = await open('vocab.json');
  if (!vocab) return missing('tokenizer.json', folder, ' and no vocab.json');
  const merges = await required(folder, 'merges.txt', open);
  return byteLevelBpe((await parseJson('vocab.json', vocab)) as Record<string, number>, await merges.text());
}

const END_OF_TEXT = '<|endoftext|>';

/** GPT-2's byte-level byte-pair encoding as a tokenizer.json, from the two files that preceded that format. */
function byteLevelBpe(vocab: Record<string, number>, merges: string): object {
  const byteLevel = {type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true};
  const lines = merges.split(/\r?\n/).filter((line, i) => line !== '' && !(i === 0 && line.startsWith('#version')));
  const endOfText = {
    id: vocab[END_OF_TEXT],
    content: END_OF_TEXT,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: END_OF_TEXT in vocab ? [endOfText] : [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {...byteLevel, trim_offsets: false},
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      vocab,
      merges: lines,
    },
  };
}
