// Operators in Chromium, against the real daemon: four beginnings, every attack that must fail, accessibility, pictures.
//
// Usage: node operators.mjs PEERS_NODE_MODULES BROWSER_NODE_MODULES GRANTD [PICTURES]
// Every page is watched: no console error, no request to a host that is none of the three, and axe-core finds nothing.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createRequire } from 'node:module';
import { open } from './world.mjs';

const [peers, modules, binary, pictures] = process.argv.slice(2);
const require = createRequire(join(resolve(modules), 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const world = await open(resolve(peers), resolve(binary));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const troubles = [];
const { base } = world;
let failed = 0;

/// A new person with a browser of their own.
async function person(account, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 760 }, ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  watch(page);
  context.on('page', watch);
  return { context, page, account };
}

function watch(page) {
  const own = [base, world.idp.issuer, world.provider.issuer];
  page.on('request', (request) => {
    if (page.url().startsWith(base) && !own.some((host) => request.url().startsWith(host))) troubles.push(`a request to ${new URL(request.url()).host}`);
  });
  page.on('console', (said) => {
    const expected = /the server responded with a status of (4|5)\d\d/.test(said.text());
    if (said.type() === 'error' && !expected && said.location().url.startsWith(base)) troubles.push(`console: ${said.text()}`);
  });
  page.on('pageerror', (error) => troubles.push(`script: ${error.message}`));
}

async function signIn(who, path = '/') {
  await who.page.goto(base + path);
  await who.page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await answer(who.page, who.account);
  await who.page.waitForURL((url) => url.href.startsWith(base));
}

/// At the identity provider or the provider: who it is, and yes.
async function answer(page, account) {
  await page.waitForURL(/\/interaction\//);
  await page.evaluate((name) => (document.querySelector('[name=account]').value = name), account);
  await page.getByRole('button', { name: 'Go on' }).click();
}

async function code(page) {
  await page.waitForURL((url) => url.href.startsWith(base));
  return page.locator('body').getAttribute('data-code');
}

async function audit(page, name) {
  // The policy lets no script in: axe runs in the browser's own, isolated world.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send('Page.getFrameTree');
  const { executionContextId } = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
  await session.send('Runtime.evaluate', { expression: axe, contextId: executionContextId });
  const { result } = await session.send('Runtime.evaluate', {
    expression: `axe.run().then(({ violations }) => JSON.stringify(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])))`,
    contextId: executionContextId,
    awaitPromise: true,
    returnByValue: true,
  });
  assert.equal(result.value, '[]', `${name}: axe-core objects`);
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

async function test(name, body) {
  try {
    await body();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`failed ${name}: ${error.stack}`);
  }
}

/// As far as the provider's redirect, which is not followed: the callback, with the browser's cookies as they are.
async function until(page, account, start) {
  await start();
  await page.waitForURL(/\/interaction\//);
  const { request } = page.context();
  let reply = await request.post(page.url(), { form: { account, answer: 'accept' }, maxRedirects: 0 });
  for (let hop = 0; hop < 5; hop += 1) {
    const next = new URL(reply.headers().location, reply.url()).href;
    if (next.startsWith(base)) return next;
    reply = await request.get(next, { maxRedirects: 0 });
  }
  throw new Error('the provider never came back');
}

const press = (page, integration) => async () => {
  await page.goto(`${base}/integrations/${integration}/connect`);
  await page.getByRole('button', { name: /^Continue to/ }).click();
};

const ann = await person('ann.secops');

await test('the sign-in leads to the integrations', async () => {
  await ann.page.goto(base);
  await audit(ann.page, 'sign-in');
  await signIn(ann);
  assert.equal(await ann.page.getByRole('heading', { level: 1 }).textContent(), 'Integrations');
  const text = await ann.page.textContent('main');
  assert.ok(text.includes('acme-vanta') && !text.includes('globex'));
  const cookies = await ann.context.cookies(base);
  const session = cookies.find((cookie) => cookie.name === 'grantd-session');
  assert.ok(session.httpOnly && session.sameSite === 'Lax');
});

await test('a replayed callback, another integration and another browser are refused, and nothing is stored', async () => {
  const callback = await until(ann.page, 'acme-bot', press(ann.page, 'acme-vanta'));
  const stranger = await person('mallory');
  await stranger.page.goto(callback);
  assert.equal(await code(stranger.page), 'invalid_oauth_state');
  const bob = await person('bob.secops');
  await signIn(bob);
  await bob.page.goto(callback);
  assert.equal(await code(bob.page), 'invalid_oauth_state');
  await ann.page.goto(callback.replace('/callback/trust', '/callback/other'));
  assert.equal(await code(ann.page), 'invalid_oauth_state');
  await ann.page.goto(callback);
  assert.equal(await code(ann.page), 'invalid_oauth_state', 'the flow ended with the wrong path');
  assert.deepEqual(world.stored(), []);
});

await test('whoever began must finish: another person in the same browser does not', async () => {
  const callback = await until(ann.page, 'acme-bot', press(ann.page, 'acme-vanta'));
  const cookies = await ann.context.cookies();
  const flow = cookies.filter((cookie) => /^grantd-[0-9a-f]{8}$/.test(cookie.name));
  const bob = await person('bob.secops');
  await signIn(bob);
  await bob.context.addCookies(flow);
  await bob.page.goto(callback);
  assert.equal(await code(bob.page), 'invalid_oauth_state');
  const nobody = await person('nobody');
  await nobody.context.addCookies(flow);
  await nobody.page.goto(callback);
  assert.equal(await code(nobody.page), 'invalid_oauth_state');
  assert.deepEqual(world.stored(), []);
});

await test('a forwarded authorization URL ends in the browser that had no cookie, refused', async () => {
  const token = await ann.page.goto(base).then(() => ann.page.locator('[name=csrf]').first().getAttribute('value'));
  const started = await ann.page.request.post(`${base}/v1/integrations/oauth/start`, {
    headers: { 'X-CSRF-Token': token }, data: { integration: 'acme-vanta' },
  });
  const { authUrl, state, success } = await started.json();
  assert.ok(success && state && authUrl.startsWith(world.provider.issuer));
  const victim = await person('victim');
  await victim.page.goto(authUrl);
  await answer(victim.page, 'victim');
  assert.equal(await code(victim.page), 'invalid_oauth_state');
  assert.deepEqual(world.stored(), []);
});

await test('beginning 1: our page ends in a stored record', async () => {
  await press(ann.page, 'acme-vanta')();
  await answer(ann.page, 'acme-bot');
  assert.equal(await code(ann.page), 'stored');
  assert.equal(world.stored().length, 1);
  await ann.page.getByRole('link', { name: 'Back to acme-vanta' }).click();
  await audit(ann.page, 'integration');
  await ann.page.goto(base);
  await audit(ann.page, 'integrations');
});

await test('beginning 2: the API ends in a stored record', async () => {
  const token = await ann.page.goto(base).then(() => ann.page.locator('[name=csrf]').first().getAttribute('value'));
  const { authUrl } = await (await ann.page.request.post(`${base}/v1/integrations/oauth/start`, {
    headers: { 'X-CSRF-Token': token }, data: { provider: 'other' },
  })).json();
  await ann.page.goto(authUrl);
  await answer(ann.page, 'acme-bot');
  assert.equal(await code(ann.page), 'stored');
  assert.equal(world.stored().length, 2);
});

await test('another account is refused unless the person ticks that it may be replaced', async () => {
  await ann.context.clearCookies({ domain: 'localhost' });
  await press(ann.page, 'acme-vanta')();
  await answer(ann.page, 'mallory');
  assert.equal(await code(ann.page), 'wrong_account');
  await ann.page.goto(`${base}/integrations/acme-vanta/connect`);
  await ann.page.getByRole('checkbox', { name: /^Replace/ }).check();
  await audit(ann.page, 'reconnect');
  await ann.context.clearCookies({ domain: 'localhost' });
  await ann.page.getByRole('button', { name: /^Continue to/ }).click();
  await answer(ann.page, 'new-bot');
  assert.equal(await code(ann.page), 'stored');
  assert.ok((await ann.page.textContent('main')).includes('new-bot'));
});

await test('a small window ends itself and the page behind it follows', async () => {
  await ann.page.goto(`${base}/integrations/acme-vanta`);
  const [popup] = await Promise.all([ann.context.waitForEvent('page'), ann.page.getByRole('link', { name: /small window/ }).click()]);
  await popup.getByRole('button', { name: /^Continue to/ }).click();
  await popup.waitForURL(/\/interaction\//);
  const reloaded = ann.page.waitForEvent('load');
  await answer(popup, 'new-bot');
  await reloaded;
  if (!popup.isClosed()) assert.ok((await popup.textContent('main')).includes('is connected'));
});

const gail = await person('gail.globex-admins', { viewport: { width: 390, height: 780 }, colorScheme: 'dark' });

await test('beginning 3: the third party, through the sign-in, into the right organization', async () => {
  await gail.page.goto(`${base}/install/trust?account=globex-8&code=stolen&state=theirs`);
  assert.equal(gail.page.url(), `${base}/install/trust`);
  await gail.page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await answer(gail.page, gail.account);
  await gail.page.waitForURL(`${base}/install/trust`);
  const text = await gail.page.textContent('main');
  assert.ok(text.includes('globex-vanta') && text.includes('globex-8') && !text.includes('stolen') && !text.includes('acme-vanta'));
  await audit(gail.page, 'install');
  await gail.page.getByRole('button', { name: /^Continue to/ }).click();
  await answer(gail.page, 'globex-bot');
  assert.equal(await code(gail.page), 'stored');
  assert.equal(world.stored().length, 3);
});

await test('a code that nobody asked for begins afresh', async () => {
  await gail.page.goto(`${base}/v1/integrations/oauth/callback/trust?code=stolen&installation_id=5`);
  assert.equal(gail.page.url(), `${base}/install/trust`);
  assert.ok(!(await gail.page.content()).includes('stolen'));
});

await test('nothing crosses organizations', async () => {
  for (const path of ['/integrations/acme-vanta', '/integrations/acme-vanta/connect', '/integrations/acme-vanta/revoke']) {
    assert.equal((await gail.page.goto(base + path)).status(), 403);
    assert.equal(await code(gail.page), 'not_an_admin');
  }
  await gail.page.goto(`${base}/activity`);
  const text = await gail.page.textContent('main');
  assert.ok(text.includes('globex-vanta') && !text.includes('acme-'), text);
  const guest = await person('guest');
  await signIn(guest);
  assert.equal(await code(guest.page), 'not_an_admin');
  await audit(guest.page, 'not-an-admin');
  const nobody = await person('nobody');
  await nobody.page.goto(`${base}/activity`);
  assert.equal(await code(nobody.page), 'not_signed_in');
});

await test('beginning 4: the one-time link, which a second browser cannot use again', async () => {
  const link = await world.link('acme-other');
  const thief = await person('thief');
  const host = await person('host');
  await host.page.goto(link);
  await audit(host.page, 'connect');
  await host.page.getByRole('button', { name: /^Continue to/ }).click();
  await host.page.waitForURL(/\/interaction\//);
  await thief.page.goto(link);
  assert.equal(await code(thief.page), 'invalid_oauth_state');
  await answer(host.page, 'acme-bot');
  assert.equal(await code(host.page), 'stored');
  await audit(host.page, 'landing');
});

await test('the activity shows what happened, follows it, and works without a script', async () => {
  await ann.page.goto(`${base}/activity`);
  await audit(ann.page, 'activity');
  const lines = await ann.page.locator('ol.lines > li').count();
  assert.ok(lines > 5);
  const newest = await ann.page.locator('[data-event]').first().getAttribute('data-event');
  await world.control('POST', '/v1/integrations/acme-other/refresh');
  await ann.page.waitForFunction((before) => document.querySelector('[data-event]').dataset.event !== before, newest);
  const plain = await person('ann.secops', { javaScriptEnabled: false, storageState: await ann.context.storageState() });
  await plain.page.goto(`${base}/activity`);
  assert.ok((await plain.page.locator('ol.lines > li').count()) > 5);
});

await test('revoking asks first and says what the provider said', async () => {
  await ann.page.goto(`${base}/integrations/acme-other`);
  await ann.page.getByRole('link', { name: 'Revoke' }).focus();
  await ann.page.keyboard.press('Enter');
  await ann.page.waitForURL(/\/revoke$/);
  await audit(ann.page, 'revoke');
  await ann.page.getByRole('button', { name: /^Revoke/ }).press('Enter');
  await ann.page.waitForSelector('[data-code=revoked]');
  assert.ok((await ann.page.textContent('main')).includes('confirmed'));
});

await test('signing out ends the session', async () => {
  await ann.page.getByRole('button', { name: 'Sign out' }).click();
  await ann.page.waitForURL(`${base}/`);
  await ann.page.goto(`${base}/integrations/acme-vanta`);
  assert.equal(await code(ann.page), 'not_signed_in');
});

await test('no console error, no request to anybody else', () => assert.deepEqual(troubles, []));
await test('every refusal left an event', async () => {
  const words = ['invalid_oauth_state', 'wrong_account', 'not_an_admin', '"sign_in"', '"sign_out"'];
  const read = () => readFileSync(join(world.home, 'state/audit/trail-000001.jsonl'), 'utf8');
  const lacking = () => words.filter((word) => !read().includes(word));
  // The trail's lines reach the disk a quarter of a second late.
  for (let tries = 0; lacking().length > 0 && tries < 50; tries += 1) await new Promise((done) => setTimeout(done, 100));
  assert.deepEqual(lacking(), []);
  const trail = read();
  assert.ok(!trail.includes('canary'));
});

await browser.close();
await world.close();
console.log(failed ? `${failed} failed` : 'all passed');
process.exit(failed ? 1 : 0);
