// When the relay recorded the batch of an event, right after its commit, by the database's clock.
// The gateway is asked once a second for all batches that are new. The clocks of database and
// browser differ: the answer says what time it is there.

const AT_MOST = 500;

export class Ages {
  #token;
  #waiting = new Map(); // batch to what is to be called with an event's age
  #timer;

  constructor(token) {
    this.#token = token;
  }

  /** Call `show(milliseconds)` with the time from the recording of this position to now. */
  ask(position, show) {
    const batch = position.replace(/^\d+\./, "").replace(/-.*$/, "");
    const shown = Date.now();
    if (!this.#waiting.has(batch)) {
      if (this.#waiting.size >= AT_MOST) return;
      this.#waiting.set(batch, []);
    }
    this.#waiting.get(batch).push({ shown, show });
    this.#timer ??= setTimeout(() => this.#fetch(), 1_000);
  }

  close() {
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  async #fetch() {
    this.#timer = undefined;
    const asked = this.#waiting;
    this.#waiting = new Map();
    try {
      const token = await this.#token();
      const before = Date.now();
      const response = await fetch(`console/batches?ids=${[...asked.keys()].join(",")}`, {
        headers: token ? { Authorization: `Bearer ${token}` } : {},
        cache: "no-store",
      });
      if (!response.ok) return;
      const { now, batches } = await response.json();
      const ahead = (before + Date.now()) / 2 - now; // by how much this clock is ahead of theirs
      for (const [batch, at] of Object.entries(batches))
        for (const { shown, show } of asked.get(batch) ?? []) show(Math.max(0, shown - ahead - at));
    } catch {
      // ages are missing, then
    }
  }
}
