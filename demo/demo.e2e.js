/**
 * Drives the demo page in a headless browser as a person would: trains on the sample text on WebGPU and on WebGL, pauses,
 * stops, and gives it wrong input. Saves a picture of each state in demo/report/.
 */
import assert from 'node:assert/strict';
import {mkdirSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';
import {browserFlags, findBrowser} from '../scripts/find_browser.js';
import {serveDemo} from '../scripts/serve_demo.js';

const report = join(dirname(fileURLToPath(import.meta.url)), 'report');
const stepTimeout = 120_000;
const steps = 20;
const narrow = {width: 360, height: 800};

const tests = {
  'trains on WebGPU, and the loss falls': (open) => trains(open, 'WebGPU'),
  'trains on WebGL, and the loss falls': (open) => trains(open, 'WebGL'),
  'keeps memory level while it trains, and frees it on Stop': keepsMemoryLevel,
  'pauses and resumes': pauses,
  'writes a sample of text': writesSample,
  'says so when there is no WebGPU, and trains on the next best': fallsBack,
  'refuses a file that is no text': refusesBinary,
  'refuses a file that is too short': refusesShort,
  'says so when the GPU is lost, and can start again': survivesLoss,
  'fits a narrow screen, in dark colours': fitsNarrowScreen,
};

const failed = await runTests();
process.exitCode = failed > 0 ? 1 : 0;

/** Runs every test in a page of its own; a test fails on an error of the page too. Returns how many failed. */
async function runTests() {
  mkdirSync(report, {recursive: true});
  const {url, close} = await serveDemo();
  const browser = await chromium.launch({executablePath: findBrowser(), args: browserFlags});
  let passed = 0;
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    const pageErrors = [];
    const contexts = [];
    const open = async (options = {}, prepare = undefined) => {
      const context = await browser.newContext({viewport: {width: 1180, height: 960}, ...options});
      contexts.push(context);
      const page = await context.newPage();
      page.setDefaultTimeout(stepTimeout);
      page.on('pageerror', (error) => pageErrors.push(error.message));
      page.on('console', (message) => message.type() === 'error' && pageErrors.push(message.text()));
      if (prepare) await page.addInitScript(prepare);
      await page.goto(url);
      await page.getByText('The sample text').waitFor();
      return page;
    };
    try {
      await test(open);
      assert.deepEqual(pageErrors, [], 'the page reported errors');
      passed++;
      console.log(`ok      ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAILED  ${name}\n${error.stack}\n${pageErrors.join('\n')}`);
    }
    for (const context of contexts) await context.close();
  }
  await browser.close();
  await close();
  console.log(`${passed} passed, ${failed} failed`);
  return failed;
}

async function trains(open, backend) {
  const page = await open();
  await start(page, backend);
  await reachStep(page, 1);
  const first = await figure(page, 'loss');
  await reachStep(page, steps);
  const last = await figure(page, 'loss');
  assert.ok(last < 0.9 * first, `loss went from ${first} to ${last}`);
  assert.ok((await figure(page, 'speed')) > 0);
  assert.match(await page.locator('#status').textContent(), new RegExp(`parameters on ${backend}`));
  assert.match(await page.locator('#chart').getAttribute('aria-label'), /from \d/);
  await picture(page, `training-${backend.toLowerCase()}`);
  await noProblem(page);
}

async function keepsMemoryLevel(open) {
  const page = await open();
  await start(page, 'WebGPU');
  await reachStep(page, 3);
  const early = await page.locator('#memory').textContent();
  await reachStep(page, steps);
  assert.equal(await page.locator('#memory').textContent(), early);
  await stop(page);
  assert.equal(await page.locator('#memory').textContent(), '0 B');
  assert.equal(await page.getByRole('button', {name: 'Start'}).isEnabled(), true);
  await noProblem(page);
}

async function pauses(open) {
  const page = await open();
  await start(page, 'WebGPU');
  await reachStep(page, 2);
  await page.getByRole('button', {name: 'Pause'}).click();
  // The step under way still ends.
  await page.waitForTimeout(2000);
  const paused = await figure(page, 'step');
  await page.waitForTimeout(2000);
  assert.equal(await figure(page, 'step'), paused);
  await page.getByRole('button', {name: 'Resume'}).click();
  await reachStep(page, paused + 2);
  await stop(page);
}

async function writesSample(open) {
  const page = await open();
  await start(page, 'WebGPU');
  await page
    .locator('#sample')
    .filter({hasText: /^.{20}/})
    .waitFor();
  assert.match(await page.locator('#sample-step').textContent(), /^After \d+ steps/);
}

async function fallsBack(open) {
  const page = await open({}, () => {
    Object.defineProperty(navigator, 'gpu', {value: undefined});
  });
  await start(page, 'WebGPU');
  await page.getByText('This browser offers no WebGPU. Training').waitFor();
  await reachStep(page, 2);
}

async function refusesBinary(open) {
  const page = await open();
  await chooseFile(page, 'picture.png', Buffer.from(Array.from({length: 2000}, (_, i) => i % 7)));
  await page.getByRole('alert').filter({hasText: '“picture.png” does not look like a text file.'}).waitFor();
  await page.getByText('The sample text').waitFor();
}

async function refusesShort(open) {
  const page = await open();
  await chooseFile(page, 'note.txt', Buffer.from('Only a few words.'));
  await page.getByText('note.txt, 17 B').waitFor();
  await start(page, 'WebGPU');
  await page.getByRole('alert').filter({hasText: '“note.txt” is too short: it has 17 bytes'}).waitFor();
  await picture(page, 'too-short');
}

async function survivesLoss(open) {
  const page = await open({}, () => {
    const {requestDevice} = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
      globalThis.latestDevice = await requestDevice.call(this, descriptor);
      return globalThis.latestDevice;
    };
  });
  await start(page, 'WebGPU');
  await reachStep(page, 2);
  await page.evaluate(() => globalThis.latestDevice.destroy());
  await page.getByRole('alert').filter({hasText: 'The GPU was lost'}).waitFor();
  await start(page, 'WebGPU');
  await reachStep(page, 2);
  await noProblem(page);
}

async function fitsNarrowScreen(open) {
  const page = await open({viewport: narrow, colorScheme: 'dark'});
  await start(page, 'WebGPU');
  await reachStep(page, 5);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.equal(overflow, 0);
  await picture(page, 'narrow-dark');
}

/** Starts with settings small enough for a software GPU. */
async function start(page, backend) {
  await page.getByLabel('Compute on').selectOption({label: backend});
  await page.getByLabel('Context length').fill('32');
  await page.getByLabel('Batch').fill('4');
  await page.getByLabel('Learning rate').fill('0.01');
  await page.getByRole('button', {name: 'Start'}).click();
}

async function stop(page) {
  await page.getByRole('button', {name: 'Stop'}).click();
  await page.getByText('Stopped.').waitFor();
}

async function chooseFile(page, name, buffer) {
  await page.getByLabel('Text to learn').setInputFiles({name, mimeType: 'text/plain', buffer});
}

async function reachStep(page, step) {
  const reached = (goal) => Number(document.getElementById('step').textContent.replaceAll(',', '')) >= goal;
  await page.waitForFunction(reached, step);
}

async function figure(page, id) {
  return Number((await page.locator(`#${id}`).textContent()).replaceAll(',', ''));
}

async function noProblem(page) {
  assert.equal(await page.getByRole('alert').textContent(), '');
}

async function picture(page, name) {
  await page.screenshot({path: join(report, `${name}.png`), fullPage: true});
}
