// Faults around the authorization server, and the entry in the ledger for each request that matters.
//
// Modes, for the next `count` requests of one client to one endpoint:
//   status  answer `status` without looking at the request     hang   never answer; nothing was processed
//   delay   process after `ms`                                 close  close the connection; nothing was processed
//   lose    process, then close without an answer              cut    process, then close in the middle of the answer

import { fingerprint } from './oidc-ledger.mjs';

const WATCHED = { '/token': 'token', '/token/revocation': 'revocation', '/me': 'userinfo' };

export class Faults {
  #ledger;
  #planned = [];
  #silent = false;

  constructor(ledger) {
    this.#ledger = ledger;
  }

  plan({ client = '*', endpoint = 'token', mode, count = 1, status = 503, ms = 2000, retryAfter }) {
    this.#planned.push({ client, endpoint, mode, left: count, status, ms, retryAfter });
  }

  forget() {
    this.#planned = [];
  }

  /// While silent, every request is taken and none is answered.
  silence(on) {
    this.#silent = on;
  }

  admit(request, _response, pass) {
    if (!this.#silent) return pass();
    request.resume();
    return undefined;
  }

  /// A middleware of the library's: sees each request before and after it.
  async around(ctx, next) {
    const endpoint = WATCHED[ctx.path];
    if (!endpoint) {
      await next();
      return this.#remember(ctx);
    }
    const client = this.#client(ctx);
    const fault = this.#next(client, endpoint);
    if (fault && ['status', 'hang', 'close'].includes(fault.mode)) return this.#instead(ctx, client, endpoint, fault);
    if (fault?.mode === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.ms));
    await next();
    this.#record(ctx, endpoint, fault);
    if (fault?.mode === 'lose') this.#close(ctx);
    if (fault?.mode === 'cut') this.#cut(ctx);
    return undefined;
  }

  #client(ctx) {
    const [scheme, value = ''] = (ctx.get('authorization') || '').split(' ');
    if (/^basic$/i.test(scheme)) return decodeURIComponent(Buffer.from(value, 'base64').toString().split(':')[0]);
    return this.#ledger.owner(value);
  }

  #next(client, endpoint) {
    const fits = (fault) => fault.left > 0 && fault.endpoint === endpoint && ['*', client].includes(fault.client);
    const fault = this.#planned.find(fits);
    if (fault) fault.left -= 1;
    return fault;
  }

  async #instead(ctx, client, endpoint, fault) {
    const chunks = [];
    for await (const chunk of ctx.req) chunks.push(chunk);
    const params = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
    const status = fault.mode === 'status' ? fault.status : undefined;
    this.#ledger.request({
      client, endpoint, grant: params.grant_type, presented: fingerprint(presented(params)), hint: params.token_type_hint,
      status, fault: fault.mode,
    });
    if (fault.mode === 'hang') ctx.respond = false;
    else if (fault.mode === 'close') this.#close(ctx);
    else {
      if (fault.retryAfter !== undefined) ctx.set('retry-after', String(fault.retryAfter));
      ctx.status = fault.status;
      ctx.body = { error: 'temporarily_unavailable' };
    }
  }

  #record(ctx, endpoint, fault) {
    const params = ctx.oidc?.params?.toPlainObject?.() ?? {};
    const client = ctx.oidc?.client?.clientId ?? this.#client(ctx);
    const body = ctx.body ?? {};
    for (const what of ['code_verifier', 'client_secret']) this.#ledger.keep(client, what, params[what]);
    if (endpoint === 'token') this.#ledger.keep(client, 'id_token', body.id_token);
    this.#ledger.request({
      client, endpoint, grant: params.grant_type, presented: fingerprint(presented(params)), hint: params.token_type_hint,
      issued: fingerprint(body.refresh_token), status: ctx.status, error: body.error, fault: fault?.mode,
    });
  }

  #remember(ctx) {
    const params = ctx.oidc?.params;
    for (const what of ['state', 'nonce']) this.#ledger.keep(params?.client_id, what, params?.[what]);
  }

  #close(ctx) {
    ctx.respond = false;
    ctx.req.socket.destroy();
  }

  #cut(ctx) {
    const whole = Buffer.from(JSON.stringify(ctx.body));
    ctx.respond = false;
    const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${whole.length}\r\n\r\n`;
    ctx.req.socket.end(Buffer.concat([Buffer.from(head), whole.subarray(0, whole.length / 2)]));
  }
}

function presented(params) {
  return params.refresh_token ?? params.code ?? params.token;
}
