// The world of the browser tests: an identity provider and a provider (npm oidc-provider), the real daemon, Chromium.
//
// Three hosts on loopback, so that the browser sees three sites: grantd on 127.0.0.1, the provider on localhost, the identity
// provider on 127.0.0.2. Everything is stopped by its process id at the end.

import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const root = resolve(import.meta.dirname, '../..');

export async function open(modules, binary) {
  const home = mkdtempSync(join(tmpdir(), 'grantd-browser-'));
  const port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  const callback = (provider) => `${base}/v1/integrations/oauth/callback/${provider}`;
  const secret = 'canary-client-secret';
  const idp = await peer(modules, {
    host: '127.0.0.2',
    clients: [{ id: 'operators', secret, redirectUris: [`${base}/sign-in/callback`] }],
  });
  const provider = await peer(modules, {
    clients: [{ id: 'vanta', secret, redirectUris: [callback('vanta')] }, { id: 'other', secret, redirectUris: [callback('other')] }],
  });
  writeFileSync(join(home, 'client-secret'), secret, { mode: 0o600 });
  writeFileSync(join(home, 'grantd.toml'), config({ home, port, base, idp, provider }));
  const daemon = spawn(binary, ['run', '--config', join(home, 'grantd.toml')], { stdio: ['ignore', 'inherit', 'pipe'] });
  const said = [];
  await line(daemon.stderr, (text) => (said.push(text), text.includes('"event":"ready"')));
  const processes = [daemon, idp.process, provider.process];
  const world = { home, base, idp, provider, said, binary };
  world.stored = () => readdirSync(join(home, 'state', 'store'), { recursive: true }).filter((name) => name.endsWith('.sealed'));
  world.link = (...rest) => run(binary, ['connect', ...rest, '--socket', join(home, 'control.sock')]);
  world.control = (method, path, body) => control(join(home, 'control.sock'), method, path, body);
  world.close = async () => {
    for (const one of processes) {
      one.kill('SIGTERM');
      if (one.exitCode === null) await new Promise((done) => one.once('exit', done));
    }
    rmSync(home, { recursive: true, force: true });
  };
  return world;
}

function config({ home, port, base, idp, provider }) {
  const secret = `client_secret = { file = "${home}/client-secret" }`;
  const providers = ['vanta', 'other'].map((id) => `
[[provider]]
id = "${id}"
name = "${id === 'vanta' ? 'Vanta' : 'Other'}"
issuer = "${provider.issuer}"
client_id = "${id}"
${secret}
authorize_params = { prompt = "consent" }
rotation = "strict"
`);
  const integrations = [['acme-vanta', 'acme', 'vanta'], ['acme-other', 'acme', 'other'], ['globex-vanta', 'globex', 'vanta']]
    .map(([id, organization, of]) => `
[[integration]]
id = "${id}"
organization = "${organization}"
provider = "${of}"
scopes = ["openid", "offline_access", "profile", "email"]
`);
  return `
[server]
public_url = "${base}"
listen = "127.0.0.1:${port}"
[sockets]
app = "${home}/app.sock"
control = "${home}/control.sock"
[state]
directory = "${home}/state"
[store]
kind = "sealed-file"
[operators]
issuer = "${idp.issuer}"
client_id = "operators"
${secret}
[[organization]]
id = "acme"
admins = { claim = "groups", contains = "secops" }
external_ids = { vanta = "acme-7" }
[[organization]]
id = "globex"
admins = { claim = "groups", contains = "globex-admins" }
external_ids = { vanta = "globex-8" }
${providers.join('')}${integrations.join('')}`;
}

async function peer(modules, options) {
  const script = join(root, 'tests/peers/oidc.mjs');
  const child = spawn(process.execPath, [script, modules, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ready = JSON.parse(await line(child.stdout, (text) => text.startsWith('{')));
  return { ...ready, process: child };
}

function line(stream, wanted) {
  return new Promise((found, gone) => {
    const lines = createInterface({ input: stream });
    const seen = [];
    lines.on('line', (text) => (seen.push(text), wanted(text) && found(text)));
    lines.on('close', () => gone(new Error(`it ended before it was ready:\n${seen.join('\n')}`)));
  });
}

function run(binary, args) {
  return new Promise((done, failed) => {
    const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const parts = [];
    child.stdout.on('data', (part) => parts.push(part));
    child.on('close', (code) => (code === 0 ? done(Buffer.concat(parts).toString().trim()) : failed(new Error(`${args[0]}: ${code}`))));
  });
}

function control(socketPath, method, path, body) {
  return new Promise((done, failed) => {
    const asked = request({ socketPath, method, path, headers: { host: 'grantd', 'content-type': 'application/json' } }, async (answer) => {
      const parts = [];
      for await (const part of answer) parts.push(part);
      done(JSON.parse(Buffer.concat(parts).toString()));
    });
    asked.on('error', failed);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function freePort() {
  return new Promise((done) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}
