/**
 * Runs cases in a browser: each in a fresh page and under a time limit, and in a fresh browser after one that failed, so
 * that no case suffers from what another did to the GPU.
 */
import {type Browser, chromium, type Page} from 'playwright-core';
import type {BenchCase} from './cases.js';
import type {AdapterDescription, BenchPage, Outcome} from './measurement.js';

export interface BrowserDescription extends AdapterDescription {
  browser: string;
  /** Drivers as the browser's GPU process knows them. */
  drivers: string[];
}

export interface LaunchOptions {
  executablePath: string;
  flags: string[];
  /** Address of the page. */
  url: string;
}

export class BrowserSession {
  private browser: Browser | undefined;

  constructor(private readonly options: LaunchOptions) {}

  async describe(): Promise<BrowserDescription> {
    const browser = await this.open();
    const page = await this.newPage(browser);
    const described = await page.evaluate(() =>
      (globalThis as typeof globalThis & {bench: BenchPage}).bench.describe(),
    );
    await page.context().close();
    return {...described, browser: `Chromium ${browser.version()}`, drivers: await readDrivers(browser)};
  }

  async measure(benchCase: BenchCase, limitSeconds: number): Promise<Outcome> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<Outcome>((resolve) => {
      timer = setTimeout(() => resolve({ok: false, reason: 'timed out'}), limitSeconds * 1000);
    });
    const outcome = await Promise.race([this.runInFreshPage(benchCase), timeout]);
    clearTimeout(timer);
    if (!outcome.ok) await this.close();
    return outcome;
  }

  /** Ends the browser; the next case starts a new one. */
  async close(): Promise<void> {
    await this.browser?.close().catch(() => undefined);
    this.browser = undefined;
  }

  private async runInFreshPage(benchCase: BenchCase): Promise<Outcome> {
    try {
      const page = await this.newPage(await this.open());
      const crash = new Promise<Outcome>((resolve) => {
        page.on('crash', () => resolve({ok: false, reason: 'browser failed: the page crashed'}));
      });
      const outcome = await Promise.race([
        page.evaluate(
          (given) => (globalThis as typeof globalThis & {bench: BenchPage}).bench.measure(given),
          benchCase,
        ),
        crash,
      ]);
      await page.context().close();
      return outcome;
    } catch (error) {
      // The page itself turns every error into an outcome, so this one is about the browser.
      return {ok: false, reason: `browser failed: ${error instanceof Error ? error.message : String(error)}`};
    }
  }

  private async open(): Promise<Browser> {
    const {executablePath, flags} = this.options;
    this.browser ??= await chromium.launch({executablePath, args: flags});
    return this.browser;
  }

  private async newPage(browser: Browser): Promise<Page> {
    const page = await (await browser.newContext()).newPage();
    // The limit of the case is what ends a long evaluation.
    page.setDefaultTimeout(0);
    await page.goto(this.options.url);
    return page;
  }
}

async function readDrivers(browser: Browser): Promise<string[]> {
  const session = await browser.newBrowserCDPSession();
  const {gpu} = await session.send('SystemInfo.getInfo');
  return gpu.devices.map(({deviceString, driverVendor, driverVersion}) =>
    [deviceString, driverVendor, driverVersion].filter(Boolean).join(', '),
  );
}
