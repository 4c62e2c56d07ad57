// Storage of the provider: maps in memory. The library's own forgets all but the last thousand entries.

import { clients, now } from './state.mjs';

const models = new Map();

export class Storage {
  constructor(model) {
    this.model = model;
    if (!models.has(model)) models.set(model, new Map());
    this.entries = models.get(model);
  }

  async upsert(id, payload, expiresIn) {
    this.entries.set(id, { payload, until: expiresIn ? now() + expiresIn : Infinity });
  }

  async find(id) {
    if (this.model === 'Client') return clients.get(id)?.metadata;
    const entry = this.entries.get(id);
    return entry && now() < entry.until ? entry.payload : undefined;
  }

  async findByUid(uid) {
    return this.#first((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    const entry = this.entries.get(id);
    if (entry) entry.payload.consumed = now();
  }

  async destroy(id) {
    this.entries.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const [id, { payload }] of this.entries) {
      if (payload.grantId === grantId) this.entries.delete(id);
    }
  }

  #first(fits) {
    for (const { payload } of this.entries.values()) if (fits(payload)) return payload;
    return undefined;
  }
}
