'use strict';
// Requests that are here before their activation is: a router may send a cold function's first ones while
// its code is still being loaded. They wait unread by any code of the function, and either run as that
// activation or are refused.

// More are refused: their router asks again, and waits for the load itself. With Node's own limits of heads and
// of bodies that nobody reads, 20 MB at most.
const MOST = 100;
// Milliseconds: many times what an ordinary load takes. A longer one is waited for by the router, where a
// request's place does not depend on this process.
const PATIENCE_MS = 1000;

class HeldRequests {
  #held = new Map();

  /**
   * @param {string} id of the activation that it is for
   * @param {import('node:http').ServerResponse} res
   * @param {(refusal: string | null) => void} settle called once, unless its client leaves before: null lets it run
   * @returns {boolean} false when no more can wait
   */
  add(id, res, settle) {
    if (this.#held.size >= MOST) return false;
    const timer = setTimeout(() => this.#settle(res, 'fenced'), PATIENCE_MS);
    this.#held.set(res, { id, settle, timer });
    res.on('close', () => this.#forget(res));
    return true;
  }

  /** @param {(id: string) => string | null | undefined} verdict as `settle` takes it; undefined: goes on waiting */
  settle(verdict) {
    for (const [res, { id }] of this.#held) {
      const refusal = verdict(id);
      if (refusal !== undefined) this.#settle(res, refusal);
    }
  }

  #settle(res, refusal) {
    this.#forget(res)?.(refusal);
  }

  #forget(res) {
    const found = this.#held.get(res);
    if (found === undefined) return undefined;
    this.#held.delete(res);
    clearTimeout(found.timer);
    return found.settle;
  }
}

module.exports = { HeldRequests };
