// An authorization server for the tests: npm oidc-provider, certified and not ours, on loopback.
//
// Code + PKCE required, refresh tokens rotate and a replayed one ends its family, redirects carry `iss`. Beside it, on a port of
// its own, a control server: clients, faults, and the ledger of every request to the token, revocation and userinfo endpoints.
// It must never be kinder than the library: faults happen around it, judgement is the library's alone.
//
// Usage: node oidc.mjs NODE_MODULES [JSON]   where JSON may hold {"clients": [{…as POST /clients…}], "host": "127.0.0.2"}
// An account `ann.secops` has the group `secops`: what follows the first dot are its groups.
// Prints {"event":"ready","issuer","control"}.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { Control } from './oidc-control.mjs';
import { Faults } from './oidc-faults.mjs';
import { Ledger } from './oidc-ledger.mjs';
import { Storage } from './oidc-storage.mjs';

// The library is installed under target/, away from this file.
const installed = resolve(process.argv[2], 'oidc-provider/lib/index.js');
const { Provider } = await import(pathToFileURL(installed).href);

const ledger = new Ledger();
const storage = new Storage();
const faults = new Faults(ledger);
const control = new Control({ ledger, storage, faults });

const options = JSON.parse(process.argv[3] ?? '{}');
const front = createServer();
await listen(front, options.host);
// Another name than the daemon's, so that a browser sees two sites.
const issuer = `http://${options.host ?? 'localhost'}:${front.address().port}`;
const provider = new Provider(issuer, configuration());
watch(provider);
const library = provider.callback();
front.on('request', (request, response) => faults.admit(request, response, () => answer(request, response)));

const back = createServer((request, response) => control.answer(request, response));
await listen(back);
for (const client of options.clients ?? []) control.register(client);
console.log(JSON.stringify({ event: 'ready', issuer, control: `http://127.0.0.1:${back.address().port}` }));

function listen(server, host = '127.0.0.1') {
  return new Promise((done) => server.listen(0, host, done));
}

async function answer(request, response) {
  const interaction = request.url.match(/^\/interaction\/[\w-]+$/);
  if (!interaction) return library(request, response);
  try {
    await (request.method === 'POST' ? decide(request, response) : ask(request, response));
  } catch (error) {
    response.writeHead(400, { 'content-type': 'text/plain' }).end(error.message);
  }
}

// The page on which a person signs in and consents at once.
async function ask(request, response) {
  const { uid, params } = await provider.interactionDetails(request, response);
  response.writeHead(200, { 'content-type': 'text/html' }).end(
    `<!doctype html><title>Consent</title><p>${escape(params.client_id)} asks for ${escape(params.scope)}</p>
    <form method="post" action="/interaction/${uid}">
    <input type="hidden" name="account" value="acme-bot"><input type="hidden" name="answer" value="accept">
    <button>Go on</button></form>`,
  );
}

async function decide(request, response) {
  const form = new URLSearchParams(await text(request));
  const { params, prompt, grantId } = await provider.interactionDetails(request, response);
  if (form.get('answer') !== 'accept') {
    const refused = { error: form.get('answer'), error_description: 'the person <b>said no</b>' };
    return provider.interactionFinished(request, response, refused, { mergeWithLastSubmission: false });
  }
  const accountId = form.get('account');
  const known = prompt.name === 'login' ? undefined : await provider.Grant.find(grantId);
  const grant = known ?? new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope ?? '');
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

async function text(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function escape(value = '') {
  return String(value).replace(/[<>&"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function configuration() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const terms = (client) => control.terms(client?.clientId);
  return {
    adapter: (model) => storage.model(model),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'tests' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: ['openid', 'offline_access', 'profile', 'email', 'read', 'write', 'repo', 'read:user'],
    claims: { openid: ['sub', 'groups'], profile: ['name', 'preferred_username'], email: ['email'] },
    pkce: { required: () => true },
    clientDefaults: { grant_types: ['authorization_code', 'refresh_token', 'client_credentials', 'urn:ietf:params:oauth:grant-type:device_code'], response_types: ['code'] },
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      userinfo: { enabled: true },
      rpInitiatedLogout: { enabled: false },
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, sub) => ({
      accountId: sub,
      claims: () => ({ sub, name: `The ${sub}`, preferred_username: sub, email: `${sub}@acme.example`, groups: sub.split('.').slice(1) }),
    }),
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: (ctx) => terms(ctx.oidc.client).rotate,
    ttl: {
      AccessToken: (_ctx, _token, client) => terms(client).accessTtl,
      AuthorizationCode: 60,
      ClientCredentials: (_ctx, _token, client) => terms(client).accessTtl,
      DeviceCode: 600,
      Grant: 86_400,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
  };
}

function watch(server) {
  server.use((ctx, next) => faults.around(ctx, next));
  for (const kind of ['client_credentials', 'access_token', 'refresh_token', 'authorization_code']) {
    server.on(`${kind}.saved`, (token) => ledger.keep(token.clientId, kind, token.jti));
    server.on(`${kind}.issued`, (token) => ledger.keep(token.clientId, kind, token.jti));
  }
  server.on('grant.error', (ctx, error) => {
    if (error.error_detail === 'refresh token already used') ledger.event(ctx.oidc.client?.clientId, 'reuse_detected');
  });
  server.on('grant.revoked', (ctx) => ledger.event(ctx.oidc.client?.clientId, 'grant_revoked'));
  server.on('server_error', (_ctx, error) => console.error(error));
}
