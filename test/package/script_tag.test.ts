/** The bundle for script tags, in a page of its own. */

const TFJS = '/node_modules/@tensorflow/tfjs/dist/tf.min.js';
const TFJS_CORE = '/node_modules/@tensorflow/tfjs-core/dist/tf-core.min.js';
const FLASH = '/dist/tfjs-flash.min.js';

/** What the page's `tf` is used for here. */
interface PageWindow extends Window {
  tf: typeof import('../../src/tf.js');
}

describe('The bundle for script tags', () => {
  let frame: HTMLIFrameElement;
  beforeEach(() => {
    frame = document.createElement('iframe');
    document.body.append(frame);
  });
  afterEach(() => frame.remove());

  it('adds the ops to the global tf, with gradients', async () => {
    const page = await load(frame, TFJS, FLASH);
    const {tf} = page.window;
    expect(page.errors).toEqual([]);
    await tf.setBackend('cpu');
    const q = tf.tensor4d([1, 2, 3, 4, 5, 6], [1, 1, 3, 2]);
    const output = q.flashAttention(q, q, {causal: true});
    expect(output.shape).toEqual([1, 1, 3, 2]);
    expect(Array.from(await output.data()).slice(0, 2)).toEqual([1, 2]);
    const [dq] = tf.grads((x) => tf.sum(tf.flashAttention(x as typeof q, q, q)))([q]);
    expect(dq.shape).toEqual(q.shape);
    expect(typeof tf.flashAttentionWithLse).toBe('function');
    expect(typeof tf.registerFlashBackend).toBe('function');
  });

  it('adds the layers to tf and tf.layers', async () => {
    const {window, errors} = await load(frame, TFJS, FLASH);
    const {tf} = window;
    expect(errors).toEqual([]);
    await tf.setBackend('cpu');
    const layer = tf.layers.pixelflyDense({units: 8, density: 1, blockSize: 4, inputShape: [16]});
    expect(layer instanceof tf.layers.Layer).toBe(true);
    const model = tf.sequential({
      layers: [layer, tf.pixelflyDense({units: 2, blockSize: 2, butterflySize: 1, factors: 0})],
    });
    model.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    const {history} = await model.fit(tf.ones([4, 16]), tf.ones([4, 2]), {epochs: 2, verbose: 0});
    expect(history.loss[1]).toBeLessThan(history.loss[0] as number);
  });

  it('has a loadLayersModel that rewrites models and calls the one of tfjs', async () => {
    const {tf} = (await load(frame, TFJS, FLASH)).window;
    await tf.setBackend('cpu');
    const layer = tf.layers.flashMultiHeadAttention({numHeads: 2, keyDim: 2, inputShape: [3, 4]});
    const modelTopology = tf.sequential({layers: [layer]}).toJSON(null, false);
    const loaded = await tf.loadLayersModel(tf.io.fromMemory({modelTopology}));
    expect(loaded.layers[0]).toBeInstanceOf(tf.FlashMultiHeadAttention);
  });

  it('adds the ops where tfjs-core is without layers', async () => {
    const {window, errors} = await load(frame, TFJS_CORE, FLASH);
    expect(errors).toEqual([]);
    expect(typeof window.tf.flashAttention).toBe('function');
    expect(window.tf.layers).toBeUndefined();
    expect(window.tf.pixelflyDense).toBeUndefined();
  });

  it('says what is missing where tfjs is not loaded', async () => {
    const {errors} = await load(frame, FLASH);
    expect(errors.length).toBe(1);
    expect(errors[0]).toContain('tfjs-flash: load @tensorflow/tfjs in a script tag before tfjs-flash');
  });
});

async function load(frame: HTMLIFrameElement, ...sources: string[]): Promise<{window: PageWindow; errors: string[]}> {
  const page = frame.contentWindow as PageWindow;
  const errors: string[] = [];
  page.addEventListener('error', (event) => {
    errors.push(event.message);
    event.preventDefault();
  });
  for (const source of sources) await loadScript(page.document, source);
  return {window: page, errors};
}

function loadScript(document: Document, source: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = source;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${source} cannot be loaded.`));
    document.body.append(script);
  });
}
