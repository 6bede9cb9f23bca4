// The library's storage, in memory and without a limit: the one it brings forgets after a thousand entries, and a forgotten
// refresh token would look like a replayed one.

export class Storage {
  #rows = new Map();

  model(name) {
    return new Model(name, this.#rows);
  }

  put(model, id, payload) {
    this.#rows.set(`${model}:${id}`, payload);
  }
}

class Model {
  constructor(name, rows) {
    this.name = name;
    this.rows = rows;
  }

  #key(id) {
    return `${this.name}:${id}`;
  }

  async upsert(id, payload) {
    this.rows.set(this.#key(id), payload);
  }

  async find(id) {
    return this.rows.get(this.#key(id));
  }

  async findByUid(uid) {
    return this.#search((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#search((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    const payload = this.rows.get(this.#key(id));
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.rows.delete(this.#key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of this.rows) {
      if (key.startsWith(`${this.name}:`) && payload.grantId === grantId) this.rows.delete(key);
    }
  }

  #search(fits) {
    for (const [key, payload] of this.rows) if (key.startsWith(`${this.name}:`) && fits(payload)) return payload;
    return undefined;
  }
}
