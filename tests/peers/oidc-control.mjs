// The control server of the authorization server: only the tests talk to it.
//
//   POST /clients  {"id", "secret", "redirectUris": […], "accessTtl": seconds, "rotate": bool}
//   POST /faults   {"client", "endpoint": "token" | "revocation" | "userinfo", "mode", "count", "status", "ms", "retryAfter"}
//   DELETE /faults      POST /silence {"on": bool}
//   GET /ledger?client=ID     GET /secrets?client=ID

export class Control {
  #parts;
  #terms = new Map();

  constructor(parts) {
    this.#parts = parts;
  }

  register({ id, secret, redirectUris, accessTtl = 3600, rotate = true }) {
    this.#terms.set(id, { accessTtl, rotate });
    this.#parts.ledger.keep(id, 'client_secret', secret);
    this.#parts.storage.put('Client', id, { client_id: id, client_secret: secret, redirect_uris: redirectUris });
  }

  terms(client) {
    return this.#terms.get(client) ?? { accessTtl: 3600, rotate: true };
  }

  async answer(request, response) {
    const { ledger, faults } = this.#parts;
    const { pathname, searchParams } = new URL(request.url, 'http://control');
    const client = searchParams.get('client');
    const body = request.method === 'POST' ? JSON.parse(await read(request)) : undefined;
    const routes = {
      'POST /clients': () => this.register(body),
      'POST /faults': () => faults.plan(body),
      'DELETE /faults': () => faults.forget(),
      'POST /silence': () => faults.silence(body.on),
      'GET /ledger': () => ledger.entries(client),
      'GET /secrets': () => ledger.secrets(client),
    };
    const route = routes[`${request.method} ${pathname}`];
    const result = route ? (route() ?? {}) : { error: 'no such route' };
    response.writeHead(route ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(result));
  }
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString() || '{}';
}
