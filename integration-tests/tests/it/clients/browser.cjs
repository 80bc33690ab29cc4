// Opens a page with an SDK in headless Chromium, keeps it open until standard input ends, and fails if
// ingest has not answered each of its requests well.
//
//   node browser.cjs PAGE WRITE_KEY INGEST FOLDER [batched]
const { execFileSync } = require('node:child_process');
const { createRequire } = require('node:module');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');

const [page, writeKey, ingest, folder, batched] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/`)('playwright-core');
const modules = path.join(folder, 'node_modules');
const bundle = {
  'rudder_browser.html': '@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js',
  'rudder_v1_browser.html': 'rudder-sdk-js/dist/npm/index.js',
  'segment_browser.html': '@segment/analytics-next/dist/umd/index.js',
}[page];// How long ingest may take for an answer.
const patience = 10_000;

const files = {
  '/': ['text/html', path.join(__dirname, page)],
  '/sdk.js': ['text/javascript', path.join(modules, bundle)],
};

function serve() {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    // The SDK's own chunks stand beside its bundle.
    const chunk = path.join(modules, path.dirname(bundle), path.basename(pathname));
    const [type, file] = files[pathname] ?? ['text/javascript', chunk];
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': type }).end(fs.readFileSync(file));
  });
  return new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(server)));
}

/** What a tab asks of ingest, and what became of it. */
function watch(tab) {
  const open = new Set();
  const [said, failed] = [[], []];
  const about = (request) => `${request.method()} ${request.url()}`;
  const ours = (request) => request.url().startsWith(ingest);
  tab.on('console', (message) => said.push(`console: ${message.text()}`));
  tab.on('pageerror', (error) => failed.push(`page: ${error}`));
  tab.on('request', (request) => ours(request) && open.add(request));
  tab.on('requestfailed', (request) => {
    open.delete(request);
    failed.push(`${about(request)}: ${request.failure().errorText}`);
  });
  tab.on('requestfinished', async (request) => {
    const status = ours(request) ? (await request.response()).status() : 200;
    open.delete(request);
    (status === 200 ? said : failed).push(`${about(request)}: ${status}`);
  });
  const idle = async () => {
    for (const end = Date.now() + patience; open.size; await new Promise((look) => setTimeout(look, 20))) {
      if (Date.now() > end) throw new Error(`no answer to ${[...open].map(about).join(', ')}`);
    }
  };
  return { said, failed, idle };
}

async function run() {
  const server = await serve();
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-browser-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim(),
    headless: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
  try {
    const tab = await browser.newPage();
    const { said, failed, idle } = watch(tab);
    const query = new URLSearchParams({ writeKey, ingest, ...(batched && { batched }) });
    await tab.goto(`http://localhost:${server.address().port}/?${query}`);
    for await (const _ of process.stdin);
    await idle();
    if (failed.length) throw new Error([...said, ...failed].join('\n'));
  } finally {
    await browser.close();
    server.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

run().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
