// What the authorization server saw and gave out. The ledger shows fingerprints, never values; the values themselves are
// kept apart, for the one purpose of looking for them where they must not be.

import { createHash } from 'node:crypto';

export class Ledger {
  #entries = [];
  #secrets = new Map();

  /// Takes down one request: `{client, endpoint, grant, presented, issued, status, error, fault}`.
  request(entry) {
    this.#entries.push({ seq: this.#entries.length, at: Date.now(), kind: 'request', ...entry });
  }

  /// Takes down something that the server noticed: `reuse_detected`, `grant_revoked`.
  event(client, event) {
    this.#entries.push({ seq: this.#entries.length, at: Date.now(), kind: 'event', client, event });
  }

  /// Remembers a value that must not be found in any log.
  keep(client, what, value) {
    if (!client || !value) return;
    if (!this.#secrets.has(client)) this.#secrets.set(client, new Map());
    this.#secrets.get(client).set(value, what);
  }

  entries(client) {
    return this.#entries.filter((entry) => !client || entry.client === client);
  }

  secrets(client) {
    return [...(this.#secrets.get(client) ?? [])].map(([value, what]) => ({ what, value }));
  }

  /// Whose access token this is.
  owner(token) {
    for (const [client, values] of this.#secrets) if (values.has(token)) return client;
    return undefined;
  }
}

export function fingerprint(value) {
  return value ? createHash('sha256').update(value).digest('hex') : undefined;
}
