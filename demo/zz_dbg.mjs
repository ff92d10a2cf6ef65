import {chromium} from 'playwright-core';
import {browserFlags, findBrowser} from '../scripts/find_browser.js';
import {serveDemo} from '../scripts/serve_demo.js';
import {execSync} from 'node:child_process';
const {url, close} = await serveDemo();
const browser = await chromium.launch({executablePath: findBrowser(), args: browserFlags});
const page = await browser.newPage({viewport:{width:1180,height:960}});
page.on('pageerror', (e) => console.log('pageerror', e.message));
page.on('console', (m) => console.log('console', m.text().slice(0,1500)));
await page.goto(url);
await page.getByText('The sample text').waitFor();
const backend = process.argv[2] ?? 'webgpu';
await page.selectOption('#backend', backend);
await page.fill('#context','32'); await page.fill('#batch','4'); await page.fill('#learning-rate','0.01');
await page.click('#start');
for (let i=0;i<+(process.argv[3]??15);i++) {
  await new Promise(r=>setTimeout(r,2000));
  const s = await Promise.race([page.evaluate(()=>['status','problem','step','loss','speed','memory','sample'].map(id=>document.getElementById(id).textContent).join(' | ')), new Promise(r=>setTimeout(()=>r('page busy'),3000))]);
  const gpu = execSync("ps -eo rss,ppid,args --sort=-rss| grep type=gpu-process | grep disable-breakpad | head -1 | cut -c1-8").toString().trim();
  console.log(i*2+2, 's', s.slice(0,300), 'gpu rss', gpu);
}
await page.screenshot({path:'/tmp/bench-dev/dbg/'+backend+'.png', fullPage:true});
await browser.close(); await close();
