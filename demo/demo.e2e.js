/**
 * Drives the built demo page in a headless browser as a person would, on WebGPU and on WebGL, and gives it wrong input.
 * Saves a picture of each state in demo/report/.
 *
 *     npm run test:demo                    GREP=words in the environment picks cases
 *     npm run test:demo -- --readme        renews docs/demo.png, the picture in README.md, and does nothing else
 */
import assert from 'node:assert/strict';
import {mkdirSync, readFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {findBrowser, testFlags} from '../scripts/find_browser.js';
import {serveDemo} from '../scripts/serve_demo.js';

const here = dirname(fileURLToPath(import.meta.url));
const report = join(here, 'report');
const stepTimeout = 120_000;
const wide = {width: 1280, height: 960};
const narrow = {width: 360, height: 800};

const FULL_MEMORY = /^The GPU’s memory is full, or too small for this. Choose a smaller context or batch/;

const pictureCase = {'takes the picture of the README': takesReadmePicture};

const cases = {
  'opens with the pretrained GPT, and writes': writesWithPretrained,
  'fine-tunes on WebGPU, is resumed after a reload, saved and restored': (open) => fineTunes(open, 'WebGPU'),
  'fine-tunes on WebGL, is resumed after a reload, saved and restored': (open) => fineTunes(open, 'WebGL'),
  'keeps a training from its first step on, and resumes it after a reload in its midst': resumesInterrupted,
  'trains every kind of attention and MLP': trainsEveryKind,
  'fine-tunes by LoRA, and goes on from that with all weights': trainsLora,
  'compares flash and standard attention, and marks where standard fails': compares,
  'marks what fails by losing WebGPU’s device while it compares': (open) => comparesUntilLoss(open, 'WebGPU'),
  'marks what fails by losing WebGL’s context while it compares': (open) => comparesUntilLoss(open, 'WebGL'),
  'fine-tunes a GPT-2 checkpoint from files': trainsGpt2,
  'fine-tunes a GPT-2 checkpoint from a URL': trainsGpt2FromUrl,
  'keeps memory level while it trains, and frees it': keepsMemoryLevel,
  'trains on in hidden tabs, where timers wait for a minute': trainsWhileHidden,
  'refuses fields that are left empty': refusesEmptyFields,
  'refuses files that are no text, empty or too short': refusesTexts,
  'refuses files that are no model': refusesModels,
  'says so when there is no WebGPU, and trains on WebGL': fallsBack,
  'says so when WebGPU’s device is lost, and resumes from what was kept': (open) => survivesLoss(open, 'WebGPU'),
  'says so when WebGL’s context is lost, and resumes from what was kept': (open) => survivesLoss(open, 'WebGL'),
  'says so when the GPU’s memory is full': survivesFullMemory,
  'says so when a tensor is more than a buffer holds': survivesTooLarge,
  'says so when WebGL’s memory is full, in training, in writing and in comparing': survivesFullWebgl,
  'works without a mouse': worksByKeyboard,
  'fits a narrow screen, in dark colours': fitsNarrowScreen,
};

/** Runs before the page's own scripts: what WebGPU reports becomes an error of the page, and cases reach the GPU. */
function watchGpu() {
  const contexts = [];
  for (const Canvas of [HTMLCanvasElement, OffscreenCanvas]) {
    const {getContext} = Canvas.prototype;
    Canvas.prototype.getContext = function (...args) {
      const context = getContext.apply(this, args);
      if (context instanceof WebGL2RenderingContext) contexts.push(context);
      return context;
    };
  }
  globalThis.loseGpu = () => {
    globalThis.latestDevice?.destroy();
    for (const context of contexts) context.getExtension('WEBGL_lose_context')?.loseContext();
  };
  if (!globalThis.GPUAdapter) return;
  const {requestDevice} = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    device.addEventListener('uncapturederror', ({error}) => console.error(`uncaptured GPU error: ${error.message}`));
    globalThis.latestDevice = device;
    return device;
  };
}

const failed = await runCases(process.argv.includes('--readme') ? pictureCase : cases);
process.exitCode = failed > 0 ? 1 : 0;

/** Runs every case in a browser profile of its own; a case fails on an error of the page too. Returns how many failed. */
async function runCases(all) {
  mkdirSync(report, {recursive: true});
  const chosen = Object.entries(all).filter(([name]) => name.includes(process.env.GREP ?? ''));
  assert.ok(chosen.length > 0, `no case contains '${process.env.GREP}'`);
  const {url, close} = await serveDemo();
  const browser = await chromium.launch({executablePath: findBrowser(), args: testFlags});
  let failures = 0;
  for (const [name, run] of chosen) {
    const begin = performance.now();
    const pageErrors = [];
    const contexts = [];
    const open = async (options = {}, prepare = undefined) => {
      const context = await browser.newContext({viewport: wide, ...options});
      contexts.push(context);
      const page = await context.newPage();
      page.setDefaultTimeout(stepTimeout);
      page.on('pageerror', (error) => pageErrors.push(error.message));
      page.on('console', (message) => message.type() === 'error' && pageErrors.push(message.text()));
      await page.addInitScript(watchGpu);
      if (prepare) await page.addInitScript(prepare);
      await page.goto(url);
      await ready(page);
      return page;
    };
    try {
      await run(open, pageErrors);
      assert.deepEqual(pageErrors, [], 'the page reported errors');
      console.log(`ok      ${name} (${Math.round((performance.now() - begin) / 1000)} s)`);
    } catch (error) {
      failures++;
      console.log(`FAILED  ${name}\n${error.stack}\n${pageErrors.join('\n')}`);
      const [page] = contexts.at(-1)?.pages() ?? [];
      await page?.screenshot({path: join(report, 'failure.png'), fullPage: true}).catch(() => {});
    }
    for (const context of contexts) await context.close();
  }
  await browser.close();
  await close();
  console.log(`${chosen.length - failures} passed, ${failures} failed`);
  return failures;
}

async function writesWithPretrained(open) {
  const page = await open();
  await picture(page, 'opened');
  await page.getByLabel('Tokens to write').fill('4');
  await page.getByLabel('Prompt').fill('The ');
  await button(page, 'Write').click();
  await atRest(page);
  assert.match(await textOf(page, 'sample-before'), /^The .{2,}/s);
  assert.equal(await textOf(page, 'memory'), '0 B');
  await noProblem(page);
}

async function fineTunes(open, backend) {
  const page = await open();
  await chooseTiny(page, {backend, steps: 16});
  await button(page, 'Start').click();
  await reachStep(page, 3);
  assert.ok((await figure(page, 'speed')) > 0);
  assert.match(await textOf(page, 'time-left'), /^\d+ of 16 steps, about .* left$/);
  assert.match(await textOf(page, 'status'), new RegExp(`weights of .* on ${backend}`));

  await button(page, 'Pause').click();
  await said(page, 'status', /^Paused after \d+ steps, and kept/);
  const paused = await figure(page, 'step');
  const before = await textOf(page, 'sample-before');
  await page.reload();
  await ready(page);
  await said(page, 'status', /kept after \d+ steps. Resume goes on/);
  assert.equal(await figure(page, 'step'), paused);
  assert.equal(await textOf(page, 'sample-before'), before);
  assert.equal(await page.getByLabel('Context length').inputValue(), '32');
  await button(page, 'Resume').click();
  await said(page, 'status', /^Done after 16 steps/);

  const lines = (await downloaded(page, 'Export as CSV')).toString().trim().split('\n');
  assert.equal(lines[0], 'step,training loss,held-out loss');
  const rows = lines.slice(1).map((line) => line.split(','));
  assert.equal(rows.length, 17);
  const [firstLoss, lastLoss] = [Number(rows[1][1]), Number(rows[16][1])];
  assert.ok(lastLoss < 0.8 * firstLoss, `the loss went from ${firstLoss} to ${lastLoss}`);
  const [firstHeldOut, lastHeldOut] = [Number(rows[0][2]), Number(rows[16][2])];
  assert.ok(lastHeldOut < 0.8 * firstHeldOut, `the held-out loss went from ${firstHeldOut} to ${lastHeldOut}`);
  const now = await textOf(page, 'sample-now');
  assert.notEqual(now, before);
  assert.match(await page.locator('#chart').getAttribute('aria-label'), /over 16 steps: training from \d/);
  await picture(page, `trained-${backend.toLowerCase()}`);

  await button(page, 'Save in this browser').click();
  await said(page, 'keep-status', /^Saved after 16 steps/);
  const files = await downloads(page, 'Download', 2);
  // Another training takes the place of the one that is kept of itself, but not of the saved one.
  await page.getByLabel('Steps', {exact: true}).fill('2');
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 2 steps/);
  await button(page, 'Restore').click();
  await said(page, 'keep-status', /^Restored .* after 16 steps/);
  await writesAs(page, now);

  const other = await open();
  const [json, weights] = files.sort((a, b) => (a.name < b.name ? -1 : 1));
  const ofAnother = {...weights, buffer: weights.buffer.subarray(4)};
  await other.getByLabel('Upload a downloaded model').setInputFiles([json, ofAnother]);
  await said(other, 'problem', /^“gpt-fine-tuned.weights.bin” does not belong to “gpt-fine-tuned.json”. Choose/);
  await other.getByLabel('Upload a downloaded model').setInputFiles(files);
  await said(other, 'keep-status', /^Restored .* after 16 steps/);
  await other.getByLabel('Backend').selectOption(backend);
  await writesAs(other, now);
  await noProblem(page);
}

/** The model writes the same again. */
async function writesAs(page, expected) {
  await button(page, 'Write').click();
  await atRest(page);
  assert.equal(await textOf(page, 'sample-now'), expected);
}

async function resumesInterrupted(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 1000});
  await button(page, 'Start').click();
  // Long before the second copy is due.
  await reachStep(page, 2);
  await page.reload();
  await ready(page);
  await said(page, 'status', /kept after \d+ steps?. Resume goes on/);
  const kept = await figure(page, 'step');
  assert.ok(kept >= 1, `kept after ${kept} steps`);
  await button(page, 'Resume').click();
  await reachStep(page, kept + 2);
  await button(page, 'Stop').click();
  await said(page, 'status', /^Stopped after \d+ steps/);
  await noProblem(page);
}

async function trainsEveryKind(open) {
  const page = await open();
  const kinds = [
    ['Standard', 'Dense'],
    ['Butterfly block-sparse', 'Pixelfly, a quarter of the weights'],
    ['Flash', 'Monarch'],
  ];
  for (const [attention, mlp] of kinds) {
    await chooseTiny(page, {backend: 'WebGPU', steps: 2});
    await page.getByLabel('Attention', {exact: true}).selectOption(attention);
    await page.getByLabel('MLP').selectOption(mlp);
    await button(page, 'Start').click();
    await said(page, 'status', /^Done after 2 steps/);
    assert.ok((await figure(page, 'loss')) < 6);
    await noProblem(page);
  }
}

async function trainsLora(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 3});
  await page.getByLabel('Fine-tuning').selectOption('LoRA: low-rank additions');
  await page.getByLabel('LoRA rank').fill('4');
  await button(page, 'Start').click();
  await said(page, 'status', /^Training 2,048 weights/);
  await said(page, 'status', /^Done after 3 steps/);
  const lora = await figure(page, 'held-out');
  await page.getByLabel('Start from').selectOption('tuned');
  await page.getByLabel('Fine-tuning').selectOption('Full: all weights');
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 3 steps/);
  assert.ok((await figure(page, 'held-out')) < lora);
  await noProblem(page);
}

async function compares(open) {
  // A GPU whose buffers hold the logits of 1024 tokens, but not two score matrices of 512 × 512.
  const page = await open({}, () => {
    Object.defineProperty(GPUSupportedLimits.prototype, 'maxStorageBufferBindingSize', {get: () => 2 ** 20});
  });
  await chooseTiny(page, {backend: 'WebGPU'});
  await button(page, 'Compare').click();
  await said(page, 'compare-status', /^Standard attention fails at a context of 512, flash runs at 1024/);
  const rows = await page.locator('#compare-rows tr').allTextContents();
  assert.match(rows[2], /^256[\d.]+ m?s[\d.]+ m?s[\d.]+ MB[\d.]+ MB$/);
  assert.match(rows[3], /^512[\d.]+ m?sfails[\d.]+ MBfails$/);
  assert.equal(await textOf(page, 'memory'), '0 B');
  await picture(page, 'compared');
  await noProblem(page);
}

async function comparesUntilLoss(open, backend) {
  const page = await open();
  await chooseTiny(page, {backend});
  await button(page, 'Compare').click();
  // While steps with standard attention are under way.
  await page.waitForFunction(() => {
    const [row] = [...document.querySelectorAll('#compare-rows tr')].slice(1);
    const [flash, standard] = row?.querySelectorAll('td') ?? [];
    if (!flash || standard.textContent !== '–') return false;
    globalThis.loseGpu();
    return true;
  });
  await said(page, 'problem', /^The GPU was lost.*\. Try again, or choose another backend\.$/);
  await atRest(page);
  const rows = await page.locator('#compare-rows tr').allTextContents();
  assert.equal(rows.length, 2);
  assert.match(rows[1], /^128[\d.]+ m?sfails[\d.]+ MBfails$/);
  assert.match(
    await textOf(page, 'compare-status'),
    /^Standard attention fails at a context of 128, flash runs at 128. The GPU was lost/,
  );
  // On a new device it goes on.
  await button(page, 'Write').click();
  await atRest(page);
  await noProblem(page);
}

async function trainsGpt2(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 3});
  await page.getByLabel('Start from').selectOption('A GPT-2 checkpoint');
  await page.getByLabel('Context length').fill('16');
  await dropFiles(page, 'gpt2-drop', await tinyCheckpoint());
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 3 steps/);
  assert.ok((await figure(page, 'loss')) > 0);
  assert.match(await textOf(page, 'sample-now'), /^The Clockmaker/);
  await picture(page, 'gpt2');
  await noProblem(page);
}

async function trainsGpt2FromUrl(open, pageErrors) {
  const page = await open();
  const files = new Map((await tinyCheckpoint()).map(({name, buffer}) => [name, buffer]));
  await page.route('https://models.example/tiny/*', (route) => {
    const body = files.get(route.request().url().split('/').at(-1));
    return route.fulfill({status: body ? 200 : 404, body, headers: {'access-control-allow-origin': '*'}});
  });
  await chooseTiny(page, {backend: 'WebGPU', steps: 1});
  await page.getByLabel('Start from').selectOption('A GPT-2 checkpoint');
  await page.getByLabel('Context length').fill('16');
  await page.getByLabel('Hugging Face id or URL').fill('https://models.example/tiny');
  await button(page, 'Start').click();
  await said(page, 'status', /of “https:\/\/models.example\/tiny” on WebGPU/);
  await said(page, 'status', /^Done after 1 step\./);
  await noProblem(page);
  // The browser tells of each file that is asked for in vain, such as tokenizer.json.
  for (const words of pageErrors.splice(0)) assert.match(words, /^Failed to load resource: .* 404/);
}

async function keepsMemoryLevel(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 1000});
  await button(page, 'Start').click();
  await reachStep(page, 2);
  const early = await textOf(page, 'memory');
  await reachStep(page, 8);
  assert.equal(await textOf(page, 'memory'), early);
  await button(page, 'Stop').click();
  await said(page, 'status', /^Stopped after \d+ steps/);
  assert.equal(await textOf(page, 'memory'), '0 B');
  await noProblem(page);
}

async function trainsWhileHidden(open) {
  const page = await open({}, () => {
    const {setTimeout} = globalThis;
    globalThis.setTimeout = (act, delay = 0, ...rest) => setTimeout(act, Math.max(delay, 60_000), ...rest);
    Object.defineProperty(Document.prototype, 'hidden', {get: () => true});
  });
  for (const backend of ['WebGPU', 'WebGL']) {
    await chooseTiny(page, {backend, steps: 4});
    await button(page, 'Start').click();
    await said(page, 'status', new RegExp(`weights of .* on ${backend}`));
    await said(page, 'status', /^Done after 4 steps/);
  }
  await noProblem(page);
}

async function refusesTexts(open) {
  const page = await open();
  const choose = (name, buffer) =>
    page.getByLabel('Choose or drop a text file').setInputFiles({name, mimeType: 'text/plain', buffer});
  await choose('picture.png', Buffer.from(Array.from({length: 2000}, (_, i) => i % 251)));
  await said(page, 'problem', /“picture.png” does not look like a text file. Choose a plain text/);
  await choose('zeros.txt', Buffer.alloc(2000));
  await said(page, 'problem', /“zeros.txt” does not look like a text file/);
  await choose('nothing.txt', Buffer.alloc(0));
  await said(page, 'problem', /“nothing.txt” is empty. Choose a file/);
  assert.match(await textOf(page, 'text-name'), /^The sample story/);
  await dropFiles(page, 'drop', [{name: 'dropped.txt', buffer: Buffer.from('Words that were dropped.')}]);
  await said(page, 'text-name', /^dropped.txt, 24 B/);
  await noProblem(page);

  await chooseTiny(page, {backend: 'WebGPU', steps: 2});
  await choose('note.txt', Buffer.from('Only a few words.'));
  await said(page, 'text-name', /^note.txt, 17 B/);
  await button(page, 'Start').click();
  await said(page, 'problem', /“note.txt” is too short: it has 17 bytes.* Choose a longer text or a smaller context/);
  await picture(page, 'too-short');

  await page.getByLabel('Or paste text').fill('Now there is enough to learn. '.repeat(10));
  await said(page, 'text-name', /^The pasted text, 300 B/);
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 2 steps/);
  await noProblem(page);
}

async function refusesEmptyFields(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 1});
  await page.getByLabel('Fine-tuning').selectOption('LoRA: low-rank additions');
  await page.getByLabel('LoRA rank').fill('');
  // Full fine-tuning has no rank.
  await page.getByLabel('Fine-tuning').selectOption('Full: all weights');
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 1 step\./);
  const done = await textOf(page, 'status');
  for (const [label, id, value] of [
    ['Steps', 'steps', '2'],
    ['Tokens to write', 'sample-length', '6'],
    ['Context length', 'context', '32'],
  ]) {
    await page.getByLabel(label, {exact: true}).fill('');
    for (const name of ['Resume', 'Write', 'Compare', 'Start']) {
      await page.locator('h1').click();
      await button(page, name).click();
      assert.equal(await page.evaluate(() => document.activeElement?.id), id, `${name} without ${label}`);
      assert.equal(await page.locator('body').getAttribute('data-state'), 'idle');
      assert.equal(await textOf(page, 'status'), done);
    }
    await page.getByLabel(label, {exact: true}).fill(value);
  }
  await button(page, 'Resume').click();
  await said(page, 'status', /^Done after 2 steps/);
  await noProblem(page);
}

async function refusesModels(open) {
  const page = await open();
  const upload = (...files) => page.getByLabel('Upload a downloaded model').setInputFiles(files);
  const json = (value) => ({name: 'model.json', mimeType: 'application/json', buffer: Buffer.from(value)});
  const bin = {name: 'model.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(8)};
  await upload(json('{}'));
  await said(page, 'problem', /Choose both files/);
  await upload(json('no JSON'), bin);
  await said(page, 'problem', /“model.json” is no model that this page saved/);
  await upload(json('{"modelTopology": {}, "weightsManifest": []}'), bin);
  await said(page, 'problem', /“model.json” is no model that this page saved/);

  await page.getByLabel('Start from').selectOption('A GPT-2 checkpoint');
  await page.getByLabel('Hugging Face id or URL').fill('');
  await button(page, 'Write').click();
  await said(page, 'problem', /Name a GPT-2 checkpoint/);
  const [config, weights, ...tokenizer] = await tinyCheckpoint();
  await page.getByLabel('Or choose or drop its files').setInputFiles([config, ...tokenizer]);
  await button(page, 'Write').click();
  await said(page, 'problem', /This checkpoint cannot be loaded: there is no model.safetensors/);
  const broken = {...weights, buffer: weights.buffer.subarray(0, 1000)};
  await page.getByLabel('Or choose or drop its files').setInputFiles([config, broken, ...tokenizer]);
  await button(page, 'Write').click();
  await said(page, 'problem', /This checkpoint cannot be loaded: .*It takes config.json/s);
}

async function fallsBack(open) {
  const page = await open({}, () => {
    Object.defineProperty(Navigator.prototype, 'gpu', {get: () => undefined});
  });
  await said(page, 'offer', /This browser offers no WebGPU, so WebGL computes/);
  await chooseTiny(page, {steps: 2});
  await button(page, 'Start').click();
  await said(page, 'status', /weights of .* on WebGL/);
  await said(page, 'status', /^Done after 2 steps/);
  await picture(page, 'no-webgpu');
  await noProblem(page);
}

async function survivesLoss(open, backend) {
  const page = await open();
  await chooseTiny(page, {backend, steps: 8});
  await button(page, 'Start').click();
  await reachStep(page, 2);
  await button(page, 'Pause').click();
  await said(page, 'status', /^Paused after/);
  const kept = await figure(page, 'step');
  await button(page, 'Resume').click();
  await reachStep(page, kept + 2);
  await page.evaluate(() => globalThis.loseGpu());
  await said(page, 'problem', /^The GPU was lost.* Press Resume to go on/);
  assert.equal(await figure(page, 'step'), kept);
  await picture(page, `lost-${backend.toLowerCase()}`);
  await button(page, 'Resume').click();
  await said(page, 'status', /^Done after 8 steps/);
  await noProblem(page);
}

async function survivesFullMemory(open, pageErrors) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 1000});
  await button(page, 'Start').click();
  await reachStep(page, 1);
  await page.evaluate(() => {
    const error = new GPUOutOfMemoryError('simulated');
    globalThis.latestDevice.dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', {error}));
  });
  await said(page, 'problem', FULL_MEMORY);
  await atRest(page);
  assert.deepEqual(pageErrors.splice(0), ['uncaptured GPU error: simulated']);
}

async function survivesTooLarge(open, pageErrors) {
  // A device of the limits that every GPU has.
  const page = await open({}, () => {
    const {requestDevice} = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = function (descriptor) {
      const {maxBufferSize, maxStorageBufferBindingSize, ...requiredLimits} = descriptor.requiredLimits ?? {};
      return requestDevice.call(this, {...descriptor, requiredLimits});
    };
  });
  await page.getByLabel('Or paste text').fill('Now there is enough to learn. '.repeat(200));
  await chooseTiny(page, {backend: 'WebGPU'});
  await page.getByLabel('Context length').fill('1024');
  // Two heads of 24 score matrices are 201 MB.
  await page.getByLabel('Batch').fill('24');
  await page.getByLabel('Attention', {exact: true}).selectOption('Standard');
  await button(page, 'Start').click();
  await said(page, 'problem', FULL_MEMORY);
  await atRest(page);
  const reported = pageErrors.splice(0);
  assert.ok(reported.length > 0 && reported.every((words) => words.startsWith('uncaptured GPU error')));
}

async function survivesFullWebgl(open) {
  const page = await open({}, () => {
    const {getError} = WebGL2RenderingContext.prototype;
    WebGL2RenderingContext.prototype.getError = function () {
      if (!globalThis.isFull) return getError.call(this);
      globalThis.isFull = false;
      return this.OUT_OF_MEMORY;
    };
  });
  const fill = () => page.evaluate(() => Object.assign(globalThis, {isFull: true}));
  await chooseTiny(page, {backend: 'WebGL', steps: 1000});
  await button(page, 'Start').click();
  await reachStep(page, 2);
  await fill();
  await said(page, 'problem', FULL_MEMORY);
  await atRest(page);
  assert.equal(await textOf(page, 'memory'), '0 B');

  await button(page, 'Write').click();
  await said(page, 'status', /writes on WebGL/);
  await fill();
  await said(page, 'problem', FULL_MEMORY);
  await atRest(page);

  await button(page, 'Compare').click();
  await page.locator('#compare-rows tr').first().waitFor();
  await fill();
  await page.locator('#compare-rows td.fails').first().waitFor();
  assert.match(await page.locator('#compare-rows td.fails').first().getAttribute('title'), FULL_MEMORY);
  await button(page, 'Stop').click();
  await atRest(page);
  await noProblem(page);
}

async function worksByKeyboard(open) {
  const page = await open();
  await chooseTiny(page, {backend: 'WebGPU', steps: 2});
  const focused = () => page.evaluate(() => document.activeElement?.id);
  const order = [];
  // From here Tab goes on.
  await page.locator('h1').click();
  await page.keyboard.press('Tab');
  for (let i = 0; i < 40 && !order.includes('compare'); i++) {
    const id = await focused();
    if (id) order.push(id);
    const visible = await page.evaluate(() => document.activeElement?.matches(':focus-visible'));
    assert.ok(visible, `the focus is not seen on ${id}`);
    await page.keyboard.press('Tab');
  }
  const expected = ['file', 'paste', 'use-sample', 'model', 'size', 'attention', 'mlp', 'tuning', 'backend', 'context'];
  expected.push('batch', 'learning-rate', 'steps', 'start', 'prompt', 'sample-length', 'write', 'upload', 'compare');
  assert.deepEqual(order, expected);
  await page.locator('#steps').focus();
  await page.keyboard.press('Enter');
  await said(page, 'status', /^Done after 2 steps/);
  await noProblem(page);
}

async function fitsNarrowScreen(open) {
  const page = await open({viewport: narrow, colorScheme: 'dark'});
  await chooseTiny(page, {backend: 'WebGPU', steps: 3});
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 3 steps/);
  await button(page, 'Compare').click();
  await page.locator('#compare-rows tr').nth(1).waitFor();
  await button(page, 'Stop').click();
  await atRest(page);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.equal(overflow, 0);
  await picture(page, 'narrow-dark');
  await page.setViewportSize(wide);
  await picture(page, 'wide-dark');
}

/** Some minutes on a software GPU. */
async function takesReadmePicture(open) {
  const page = await open({viewport: {width: 1200, height: 1120}});
  await page.getByLabel('Context length').fill('64');
  await page.getByLabel('Batch').fill('2');
  await page.getByLabel('Steps', {exact: true}).fill('40');
  await page.getByLabel('Tokens to write').fill('120');
  await page.getByLabel('Prompt').fill('The clockmaker');
  page.setDefaultTimeout(600_000);
  await button(page, 'Start').click();
  await said(page, 'status', /^Done after 40 steps/);
  mkdirSync(join(here, '../docs'), {recursive: true});
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({path: join(here, '../docs/demo.png')});
  await noProblem(page);
}

/** A model and settings small enough for a software GPU. */
async function chooseTiny(page, {backend, steps = 2}) {
  await page.getByLabel('Start from').selectOption('A new model, untrained');
  await page.getByLabel('Size').selectOption('Tiny: 1 layer of width 64');
  if (backend) await page.getByLabel('Backend').selectOption(backend);
  await page.getByLabel('Context length').fill('32');
  await page.getByLabel('Batch').fill('4');
  await page.getByLabel('Learning rate').fill('0.01');
  await page.getByLabel('Steps', {exact: true}).fill(String(steps));
  await page.getByLabel('Tokens to write').fill('6');
}

/** The files of a GPT-2 checkpoint of random weights, which the specs make too. */
async function tinyCheckpoint() {
  const contents = `
    import {tinyConfig, tinySafetensors, tinyTensors} from './tiny_gpt2.js';
    import {tinyMerges, tinyVocab} from './tiny_tokenizer.js';
    export const config = JSON.stringify(tinyConfig);
    export const weights = new Uint8Array(tinySafetensors(tinyTensors()));
    export const vocab = JSON.stringify(tinyVocab);
    export const merges = tinyMerges;`;
  const stdin = {contents, resolveDir: join(here, '../test/convert')};
  const {outputFiles} = await build({stdin, bundle: true, format: 'esm', write: false, logLevel: 'warning'});
  const made = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
  const file = (name, content) => ({name, mimeType: 'application/octet-stream', buffer: Buffer.from(content)});
  return [
    file('config.json', made.config),
    file('model.safetensors', made.weights),
    file('vocab.json', made.vocab),
    file('merges.txt', made.merges),
  ];
}

async function dropFiles(page, id, files) {
  const encoded = files.map(({name, buffer}) => ({name, content: buffer.toString('base64')}));
  const dataTransfer = await page.evaluateHandle((given) => {
    const transfer = new DataTransfer();
    for (const {name, content} of given) {
      transfer.items.add(new File([Uint8Array.from(atob(content), (character) => character.charCodeAt(0))], name));
    }
    return transfer;
  }, encoded);
  await page.locator(`#${id}`).dispatchEvent('drop', {dataTransfer});
}

function button(page, name) {
  return page.getByRole('button', {name, exact: true});
}

/** The page has looked at the browser and at what was kept. */
async function ready(page) {
  await page.locator('body[data-state="idle"]').waitFor();
  await page.getByText('The sample story, ').waitFor();
}

async function atRest(page) {
  await page.locator('body[data-state="idle"]').waitFor();
}

/** Waits for a sentence; one that tells of a problem ends the waiting. */
async function said(page, id, pattern) {
  const found = page.locator(`#${id}`).filter({hasText: pattern});
  const problem = page.locator('#problem:not(:empty)');
  await found.or(problem).first().waitFor();
  if (!(await found.isVisible())) assert.fail(`not ${pattern}, but: ${await problem.textContent()}`);
}

async function textOf(page, id) {
  return page.locator(`#${id}`).textContent();
}

async function reachStep(page, step) {
  const reached = (goal) => Number(document.getElementById('step').textContent.replaceAll(',', '')) >= goal;
  await page.waitForFunction(reached, step);
}

async function figure(page, id) {
  return Number((await textOf(page, id)).replaceAll(',', ''));
}

async function noProblem(page) {
  assert.equal(await textOf(page, 'problem'), '');
}

async function downloaded(page, name) {
  const [{buffer}] = await downloads(page, name, 1);
  return buffer;
}

/** The files that a button gives, as a person would choose them in an upload. */
async function downloads(page, name, count) {
  const events = [];
  const arrived = new Promise((resolve) => {
    page.on('download', (download) => events.push(download) === count && resolve());
  });
  await button(page, name).click();
  await arrived;
  page.removeAllListeners('download');
  const files = events.map(async (download) => ({
    name: download.suggestedFilename(),
    mimeType: 'application/octet-stream',
    buffer: readFileSync(await download.path()),
  }));
  return Promise.all(files);
}

async function picture(page, name) {
  await page.screenshot({path: join(report, `${name}.png`), fullPage: true});
}
