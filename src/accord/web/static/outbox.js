// What was said goes into the browser's storage first and leaves it only when the server has answered that it is on
// its disk. A lost connection, a closed laptop or a reload lose nothing; sending twice changes nothing, since
// every entry carries its own id.
const TIMEOUT = 15000;
const WAITS = [1000, 2000, 4000, 8000, 10000];

export class Outbox {
  #prefix;
  #memory = new Map(); // where the browser refuses storage: better than nothing, and the page then warns
  #busy = false;
  #again = false;
  #failures = 0;
  #timer = null;
  #count = 0;

  // csrf: the page's token. have(): ids of the items that the page holds. answer(reply, entries): what to do with a
  // reply. state(name, sentence): "saved", "waiting" or "trouble".
  constructor({ store, person, csrf, have, answer, state }) {
    this.#prefix = `accord.out.${store}.${person}.`;
    Object.assign(this, { csrf, have, answer, state });
    addEventListener("online", () => this.send());
    addEventListener("beforeunload", (event) => this.#memory.size && event.preventDefault());
  }

  #keys() {
    const kept = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix));
    return [...kept, ...this.#memory.keys()].sort();
  }

  get waiting() {
    return this.#keys().length;
  }

  // Assignments with a judgement that the server has not confirmed yet.
  get unsent() {
    return new Set(this.#entries(this.#keys()).filter((e) => e.op === "judgement").map((e) => e.body.assignment));
  }

  #entries(keys) {
    return keys.map((key) => JSON.parse(this.#memory.get(key) ?? localStorage.getItem(key)));
  }

  put(entry) {
    const key = `${this.#prefix}${String(Date.now()).padStart(15, "0")}.${String(this.#count++).padStart(6, "0")}`;
    const text = JSON.stringify(entry);
    try {
      localStorage.setItem(key, text);
    } catch {
      this.#memory.set(key, text);
    }
    this.send();
  }

  // Send what waits, oldest first; with nothing waiting it is a sign of life that keeps the leases.
  async send() {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    clearTimeout(this.#timer);
    do {
      this.#again = false;
      await this.#once();
    } while (this.#again && this.#failures === 0);
    this.#busy = false;
  }

  async #once() {
    const keys = this.#keys().slice(0, 20);
    const entries = this.#entries(keys);
    if (entries.length) this.#waiting();
    let response;
    try {
      response = await fetch("/api/sync", {
        method: "POST",
        headers: { "content-type": "application/json", "x-csrf-token": this.csrf },
        body: JSON.stringify({ entries, have: this.have() }),
        signal: AbortSignal.timeout(TIMEOUT),
      });
    } catch {
      return this.#later();
    }
    if (response.status === 401) return this.state("trouble", "Signed out. Sign in again: what you judged is kept.");
    if (response.status === 403) return this.state("trouble", "Load the page again: what you judged is kept.");
    if (!response.ok) return this.#later();
    let reply;
    try {
      reply = await response.json();
    } catch {
      return this.#later();
    }
    this.#failures = 0;
    for (const key of keys) {
      localStorage.removeItem(key);
      this.#memory.delete(key);
    }
    const refused = reply.results.filter((result) => result.status !== 200);
    if (this.waiting) this.#again = true;
    else if (refused.length) this.state("trouble", `Not accepted: ${refused[0].problem}.`);
    else this.state("saved", "Saved");
    this.answer(reply, entries);
  }

  #later() {
    const wait = WAITS[Math.min(this.#failures, WAITS.length - 1)];
    this.#failures += 1;
    this.#timer = setTimeout(() => this.send(), wait);
    this.#waiting();
  }

  #waiting() {
    const count = this.waiting;
    if (count) this.state("waiting", `Waiting to save ${count}`);
    else this.state("waiting", "No connection");
  }
}
